package org.approxifer.torchserve.core;

import java.util.List;
import java.util.Locale;
import org.pytorch.serve.util.messages.RequestInput;

/** One task handed to one worker; reported back once. */
public final class Assignment {
  final Task task;
  final String worker;
  final long handedNanos;
  final RequestInput payload;
  boolean done;

  /** It was not answered in time; what else is done for its query does not wait for it. */
  boolean late;

  Timers.Timer lateTimer;

  Assignment(Task task, String worker, long handedNanos, RequestInput payload) {
    this.task = task;
    this.worker = worker;
    this.handedNanos = handedNanos;
    this.payload = payload;
  }

  /** The job as log lines name it: its kind and the ids of the requests it is for. */
  public String described() {
    if (task.query == null && task.group == null) {
      return kind() + " job";
    }
    List<String> requests =
        task.query == null ? task.group.requestIds() : List.of(task.query.requestId());
    return kind() + " job for request " + String.join(" ", requests);
  }

  /** The worker it was handed to, by TorchServe's worker id. */
  public String worker() {
    return worker;
  }

  /** raw, hedge, parity, encode, coded or decode: for logs and tests. */
  public String kind() {
    return task.kind.name().toLowerCase(Locale.ROOT);
  }

  /** The client whose own request this is, or null for a job of a group. */
  public Client client() {
    return task.query == null ? null : task.query.client;
  }

  /** What the worker is sent; a new object for every hand-out. */
  public RequestInput payload() {
    return payload;
  }
}
