package org.approxifer.torchserve.ts;

import java.util.List;
import java.util.Map;
import org.pytorch.serve.job.Job;
import org.pytorch.serve.util.messages.RequestInput;
import org.pytorch.serve.util.messages.WorkerCommands;
import org.pytorch.serve.wlm.Model;

/** A client's request that notes the errors it is answered. */
public final class NotedJob extends Job {
  private final List<String> answers;

  /** A request to a model; errors are added as "status message". */
  public NotedJob(Model model, List<String> answers) {
    super(
        model.getModelName(),
        model.getVersion(),
        WorkerCommands.PREDICT,
        new RequestInput("request"));
    this.answers = answers;
  }

  @Override
  public void response(
      byte[] body, CharSequence type, int status, String phrase, Map<String, String> headers) {
    answers.add(status + " answered");
  }

  @Override
  public void sendError(int status, String error) {
    answers.add(status + " " + error);
  }

  @Override
  public boolean isOpen() {
    return true;
  }
}
