package org.approxifer.torchserve.core;

import org.approxifer.torchserve.core.policy.Blame;
import org.approxifer.torchserve.core.policy.Trust;

/**
 * What becomes of a query that a worker answered with an error of the server, and of the worker.
 */
record Faults(
    Plan plan,
    Schedule schedule,
    Counters counters,
    Backlog backlog,
    Ledger ledger,
    Trust trust,
    Blame blame,
    Settlement settlement) {
  /** The worker that failed it is to have it again only if no other takes it for long. */
  private static final long AVOID_NANOS = 5_000_000_000L;

  /** True if a query that a worker failed is with another, or another is to try it. */
  boolean mayComeRight(Assignment failed) {
    Query query = failed.task.query;
    // A shadow's worker is known to fail: that says nothing of the query.
    boolean shadow = failed.task.kind == Task.Kind.SHADOW;
    if (!shadow && query.failedBy != null && !query.failedBy.equals(failed.worker)) {
      // Two workers fail alike: it is the request.
      trust.cleared(query.failedBy);
      trust.cleared(failed.worker);
      return !query.outstanding.isEmpty();
    }
    if (!shadow) {
      query.failedBy = failed.worker;
    }
    return query.queued > 0
        || query.outstanding.stream().anyMatch(job -> job.task.kind != Task.Kind.SHADOW)
        || retried(failed)
        || !query.outstanding.isEmpty();
  }

  private boolean retried(Assignment failed) {
    Query query = failed.task.query;
    boolean another = ledger.another(failed.worker::equals);
    if (query.retried || !another || !plan.policy().idempotent() || !blame.mayRetry()) {
      return false;
    }
    query.retried = true;
    counters.add(Counters.Count.RETRIES);
    backlog.addFirst(failed.task.again(failed.worker, schedule.now() + AVOID_NANOS));
    return true;
  }

  /** A worker answered a query. */
  void answered(Assignment assignment) {
    blame.did(assignment.worker, false);
    Query query = assignment.task.query;
    if (query == null || query.failedBy == null || query.failedBy.equals(assignment.worker)) {
      return;
    }
    toBlame(query.failedBy);
    query.failedBy = null;
  }

  /** A worker failed what another has answered. */
  void toBlame(String blamed) {
    counters.add(Counters.Count.BLAMED);
    if (blame.did(blamed, true) && trust.eject(blamed)) {
      counters.add(Counters.Count.EJECTIONS);
      settlement.note(
          true,
          "worker "
              + blamed
              + " is ejected: of its last jobs others did two that it had failed; it gets shadows");
    }
  }
}
