package org.approxifer.torchserve.core;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/** One client's request and what became of it. Guarded by the router's lock. */
final class Query {
  final Client client;
  final long admittedNanos;

  /** The group it is coded with, or null. */
  Group group;

  /** Position in the group, 0..K-1. */
  int index = -1;

  /** Monotonic time in ns at which the client gets what there is, or an error. */
  final long deadlineNanos;

  /** A reconstruction that waits for an exact answer; what the client gets if none comes. */
  Answer spare;

  /** Its answers under verification, or null. */
  Check check;

  boolean settled;

  /** It ended without an answer: its client has left, or was sent an error. */
  boolean abandoned;

  boolean late;

  /** Never shares a batch with others: it may be what kills workers, or it cannot be coded. */
  boolean alone;

  /** In a coded group, but sent by itself: it cannot be coded with the others. */
  boolean solo;

  /** A decode task for it is on its way. */
  boolean decoding;

  int deaths;
  int erasures;

  /** Workers whose answers could not be used; others are asked first. */
  final Set<String> erasedBy = new HashSet<>(2);

  /** Monotonic time in ns; afterwards any worker is better than none. */
  long avoidUntil;

  int handOuts;

  /** Raw tasks in the backlog. */
  int queued;

  /** Raw hand-outs that have not been answered. */
  final List<Assignment> outstanding = new ArrayList<>(2);

  Query(Client client, long admittedNanos, long policyDeadlineNanos) {
    this.client = client;
    this.admittedNanos = admittedNanos;
    long own = client.deadlineNanos();
    deadlineNanos = admittedNanos + (own > 0 ? own : policyDeadlineNanos);
  }

  /** TorchServe's id of the request: clients get it as x-request-id, log lines carry it. */
  String requestId() {
    return client.request().getRequestId();
  }

  /** True if nobody waits for another answer to it: no client, no check, no group. */
  boolean done() {
    return settled && (check == null || check.finished || abandoned) && !groupLacks();
  }

  /** True if the other members of its group cannot be screened without an answer to it. */
  private boolean groupLacks() {
    return group != null && group.screen != null && group.screen.lacks(index);
  }

  boolean avoids(String worker, long now) {
    return erasedBy.contains(worker) && now - avoidUntil < 0;
  }

  /** True if every worker that holds it is late, or none holds it. */
  boolean stuck() {
    return outstanding.stream().allMatch(assignment -> assignment.late);
  }

  boolean heldBy(String worker) {
    for (Assignment assignment : outstanding) {
      if (assignment.worker.equals(worker)) {
        return true;
      }
    }
    return false;
  }
}
