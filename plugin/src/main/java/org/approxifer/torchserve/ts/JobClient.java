package org.approxifer.torchserve.ts;

import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.approxifer.torchserve.core.Answer;
import org.approxifer.torchserve.core.Client;
import org.approxifer.torchserve.core.Outcome;
import org.pytorch.serve.http.ErrorResponse;
import org.pytorch.serve.job.GRPCJob;
import org.pytorch.serve.job.Job;
import org.pytorch.serve.util.JsonUtils;
import org.pytorch.serve.util.messages.InputParameter;
import org.pytorch.serve.util.messages.RequestInput;
import org.pytorch.serve.util.messages.WorkerCommands;

/** A TorchServe client's own job, REST or gRPC, as the router sees it. */
final class JobClient implements Client {
  private static final String OUTCOME = "x-approxifer-outcome";
  private static final String ACCEPT = "x-approxifer-accept";
  private static final String DEADLINE = "x-approxifer-deadline-ms";
  private static final double MAX_DEADLINE_MS = 3_600_000;

  private final Job job;
  private boolean scheduled;

  JobClient(Job job) {
    this.job = job;
    if (job instanceof GRPCJob) {
      optionsToHeaders(job.getPayload());
    }
    if (infer()) {
      // As TorchServe marks what comes by a KServe URL: without it no envelope is looked for.
      job.getPayload().getHeaders().put("explain", "False");
    }
  }

  /** True for KServe's ModelInfer over gRPC. */
  private boolean infer() {
    return job.getCmd() == WorkerCommands.OIPPREDICT;
  }

  /** A gRPC call's metadata never gets here: its options are inputs with the headers' names. */
  private static void optionsToHeaders(RequestInput request) {
    for (InputParameter input : List.copyOf(request.getParameters())) {
      if (input.getName().equalsIgnoreCase(ACCEPT) || input.getName().equalsIgnoreCase(DEADLINE)) {
        request.getParameters().remove(input);
        request
            .getHeaders()
            .put(input.getName(), new String(input.getValue(), StandardCharsets.UTF_8));
      }
    }
  }

  WorkerCommands command() {
    return job.getCmd();
  }

  @Override
  public RequestInput request() {
    return job.getPayload();
  }

  @Override
  public boolean codable() {
    return framed() && !"True".equals(job.getPayload().getHeaders().get("explain"));
  }

  @Override
  public boolean framed() {
    return job.getCmd() != WorkerCommands.DESCRIBE;
  }

  @Override
  public boolean exactOnly() {
    return "exact-only".equalsIgnoreCase(option(ACCEPT));
  }

  @Override
  public long deadlineNanos() {
    String value = option(DEADLINE);
    try {
      double ms = value == null ? 0 : Double.parseDouble(value);
      return ms > 0 && ms <= MAX_DEADLINE_MS ? (long) (ms * 1_000_000) : 0;
    } catch (NumberFormatException e) {
      return 0;
    }
  }

  /** A request option; TorchServe keeps header names in the client's letter case. */
  private String option(String name) {
    for (Map.Entry<String, String> header : job.getPayload().getHeaders().entrySet()) {
      if (header.getKey().equalsIgnoreCase(name)) {
        return header.getValue();
      }
    }
    return null;
  }

  @Override
  public boolean gone() {
    try {
      if (job instanceof GRPCJob call && infer()) {
        return Internals.inferCancelled(call);
      }
      // GRPCJob.isOpen() says whether the call was cancelled.
      return job instanceof GRPCJob ? job.isOpen() : !job.isOpen();
    } catch (NullPointerException | ClassCastException e) {
      return false; // TorchServe's own requests have no connection
    }
  }

  @Override
  public long expiresAtMillis() {
    return job.getPayload().getClientExpireTS();
  }

  @Override
  public synchronized void scheduled() {
    if (!scheduled) {
      scheduled = true;
      job.setScheduled();
    }
  }

  @Override
  public void answer(Answer answer, Outcome outcome) {
    if (job instanceof GRPCJob && answer.status() >= 400) {
      // GRPCJob.response would drop the status and call the refusal a prediction.
      job.sendError(answer.status(), new String(answer.body(), StandardCharsets.UTF_8));
      return;
    }
    Map<String, String> headers = new HashMap<>(answer.headers());
    headers.put(OUTCOME, outcome.toString());
    try {
      job.response(answer.body(), answer.contentType(), answer.status(), answer.phrase(), headers);
    } catch (RuntimeException e) {
      if (!infer()) {
        throw e;
      }
      // GRPCJob takes the answer apart before it sends anything.
      job.sendError(500, "the model's answer is not one of KServe v2 that fits gRPC: " + e);
    }
  }

  @Override
  public void busy(String message, long retryAfterSeconds) {
    error(503, message, Map.of("Retry-After", String.valueOf(retryAfterSeconds)));
  }

  @Override
  public void error(int status, String message) {
    error(status, message, Map.of());
  }

  private void error(int status, String message, Map<String, String> more) {
    if (job instanceof GRPCJob || !framed()) {
      job.sendError(status, message);
      return;
    }
    // RestJob.sendError cannot set headers; the body is the one that it would write.
    String type = status < 500 ? "BadRequestException" : "InternalServerException";
    String body = JsonUtils.GSON_PRETTY.toJson(new ErrorResponse(status, type, message)) + "\n";
    Map<String, String> headers = new HashMap<>(more);
    headers.put(OUTCOME, Outcome.FAILED.toString());
    job.response(body.getBytes(StandardCharsets.UTF_8), "application/json", status, null, headers);
  }
}
