package org.approxifer.torchserve.core;

import org.pytorch.serve.util.messages.RequestInput;

/** One task handed to one worker; reported back once. */
public final class Assignment {
  public final Task task;

  /** The worker it was handed to, by TorchServe's worker id. */
  public final String worker;

  final long handedNanos;
  private final RequestInput payload;
  boolean done;

  /** It was not answered in time; what else is done for its query does not wait for it. */
  public boolean late;

  Batch batch;

  /** What the budget of copies was charged for it, in mean services. */
  double charge;

  Assignment(Task task, String worker, long handedNanos, RequestInput payload) {
    this.task = task;
    this.worker = worker;
    this.handedNanos = handedNanos;
    this.payload = payload;
  }

  /** The job as log lines name it: its kind and the ids of the requests it is for. */
  public String described() {
    String requests = String.join(" ", task.requestIds());
    return task.kind + (requests.isEmpty() ? " job" : " job for request " + requests);
  }

  /** The job's kind, such as raw, hedge or parity: for logs and tests. */
  public String kind() {
    return task.kind.toString();
  }

  /** The client whose own request this is; null for a job of a group, or once it has gone. */
  public Client client() {
    return task.query == null ? null : task.query.client();
  }

  /** What the worker is sent. */
  public RequestInput payload() {
    return payload;
  }
}
