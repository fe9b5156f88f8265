package org.approxifer.torchserve.ts;

import java.util.Map;
import org.approxifer.torchserve.core.Answer;
import org.approxifer.torchserve.core.Assignment;
import org.approxifer.torchserve.core.Router;
import org.pytorch.serve.job.Job;
import org.pytorch.serve.util.messages.WorkerCommands;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * An assignment in the shape in which TorchServe's worker threads carry it.
 *
 * <p>The callbacks run on worker threads, which an exception would tear down: they never throw.
 */
final class HandedJob extends Job {
  private static final Logger LOGGER = LoggerFactory.getLogger(HandedJob.class);

  private final Router router;
  private final Assignment assignment;

  HandedJob(String model, String version, Router router, Assignment assignment) {
    super(model, version, command(assignment), assignment.payload());
    this.router = router;
    this.assignment = assignment;
  }

  private static WorkerCommands command(Assignment assignment) {
    boolean describe =
        assignment.client() instanceof JobClient client
            && client.command() == WorkerCommands.DESCRIBE;
    return describe ? WorkerCommands.DESCRIBE : WorkerCommands.PREDICT;
  }

  /** TorchServe put the job back into the queue. */
  void returned() {
    safely(() -> router.returned(assignment));
  }

  @Override
  public void setScheduled() {
    super.setScheduled();
    if (assignment != null && assignment.client() != null) {
      safely(assignment.client()::scheduled);
    }
  }

  @Override
  public void response(
      byte[] body,
      CharSequence contentType,
      int statusCode,
      String statusPhrase,
      Map<String, String> responseHeaders) {
    Answer answer = new Answer(body, contentType, statusCode, statusPhrase, responseHeaders);
    safely(() -> router.answered(assignment, answer));
  }

  @Override
  public void sendError(int status, String error) {
    safely(() -> router.failed(assignment, status, error == null ? "Worker error" : error));
  }

  @Override
  public boolean isOpen() {
    return true;
  }

  private void safely(Runnable callback) {
    try {
      callback.run();
    } catch (RuntimeException e) {
      LOGGER.error("worker {}: {}", assignment.worker, assignment.described(), e);
    }
  }
}
