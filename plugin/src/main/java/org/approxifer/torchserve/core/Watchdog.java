package org.approxifer.torchserve.core;

import java.util.Set;

/**
 * Settles what TorchServe never calls back: deadlines, expired and departed clients, workers that
 * were scaled away, a model that was unregistered.
 */
final class Watchdog {
  private static final long NO_CALLBACK_NANOS = 500_000_000L;
  private static final long NO_WORKER_NANOS = 200_000_000L;

  private final String name;
  private final Clock clock;
  private final Counters counters;
  private final Settlement settlement;
  private Set<String> workers = Set.of();
  private long now;
  private boolean closed;
  private long closedNanos;

  Watchdog(String name, Clock clock, Counters counters, Settlement settlement) {
    this.name = name;
    this.clock = clock;
    this.counters = counters;
    this.settlement = settlement;
  }

  /** Notes what is there at this moment; what follows looks at it. */
  void observe(Set<String> workers, boolean registered, long now) {
    this.workers = workers;
    this.now = now;
    if (!registered && !closed) {
      closedNanos = now;
    }
    closed = !registered; // TorchServe puts a model back whose workers it could not end in time
  }

  /** True once the model has been unregistered. */
  boolean closed() {
    return closed;
  }

  /** True if the worker was scaled away and TorchServe has had time to say so. */
  boolean forgotten(Assignment assignment) {
    return !workers.contains(assignment.worker) && now - assignment.handedNanos > NO_CALLBACK_NANOS;
  }

  /** Ends the wait of a client that has left, or whom nothing will reach in time. */
  void check(Query query) {
    long age = now - query.admittedNanos;
    if (query.client().gone()) {
      counters.add(Counters.Count.CLIENT_GONE);
      settlement.drop(query);
    } else if (query.client().expiresAtMillis() <= clock.millis()) {
      settlement.error(query, 504, "no answer within the model's client timeout");
    } else if (closed && now - closedNanos > NO_CALLBACK_NANOS) {
      settlement.unavailable(query, name + " was unregistered");
    } else if (workers.isEmpty() && age > NO_WORKER_NANOS) {
      settlement.unavailable(query, name + " has no worker");
    } else if (query.overdue(now)) {
      overdue(query);
    }
  }

  private void overdue(Query query) {
    long ms = query.patienceNanos / 1_000_000;
    settlement.unavailable(
        query,
        (query.verification.begun()
                ? "no answer that could be checked within the deadline of "
                : "no answer within the deadline of ")
            + ms
            + " ms (handler.approxifer.policy.deadline_ms, or the request's own)");
  }
}
