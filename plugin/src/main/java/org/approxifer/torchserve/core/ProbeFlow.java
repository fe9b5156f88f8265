package org.approxifer.torchserve.core;

import java.util.Set;
import org.approxifer.torchserve.core.Comparison.Verdict;

/**
 * A stored query with its known prediction, sent to every worker at a low rate.
 *
 * <pre>
 *  probe ─▶ same as known ─▶ right
 *        └▶ compare ─▶ right, or confirmed wrong
 * </pre>
 */
final class ProbeFlow implements Flow {
  private static final long QUARANTINE_PROBE_NANOS = 500_000_000L;

  /** A suspect is probed no more often than this, however often it is suspected. */
  private static final long SUSPECT_PROBE_NANOS = 500_000_000L;

  private final Router router;
  private final CompareFlow comparisons;
  private final Quarantine quarantine;

  ProbeFlow(Router router, CompareFlow comparisons, Quarantine quarantine) {
    this.router = router;
    this.comparisons = comparisons;
    this.quarantine = quarantine;
  }

  /** Probes the workers whose turn it is; to be called every 50 ms or so. */
  void probe(Set<String> workers, long now) {
    if (!router.probes()) {
      return;
    }
    for (String worker : workers) {
      Ledger.Entry entry = router.ledger.of(worker);
      long every =
          entry.quarantined
              ? Math.min(QUARANTINE_PROBE_NANOS, router.plan.policy().probeEveryNanos())
              : router.plan.policy().probeEveryNanos();
      probe(worker, entry, every, now);
    }
  }

  /** Notes that a worker may have answered wrong, and brings its next probe forward. */
  void suspect(String worker) {
    if (router.ledger.has(worker)) {
      router.ledger.of(worker).suspicions++;
      bringForward(worker);
    }
  }

  /** Probes a worker soon that gave reason to. */
  void bringForward(String worker) {
    // It may have been scaled away since.
    if (router.probes() && router.ledger.has(worker)) {
      probe(worker, router.ledger.of(worker), SUSPECT_PROBE_NANOS, router.clock.nanos());
    }
  }

  private void probe(String worker, Ledger.Entry entry, long every, long now) {
    if (!entry.probing && (entry.probes == 0 || now - entry.lastProbe >= every)) {
      entry.probing = true;
      entry.probes++;
      entry.lastProbe = now;
      router.enqueue(Task.probe(worker, entry));
    }
  }

  @Override
  public void answered(Assignment assignment, Answer answer, Reply reply) {
    String worker = assignment.worker;
    if (!reply.has("prediction") || reply.object("error") != null) {
      assignment.task.probed.probing = false;
      quarantine.probed(worker, false);
      return;
    }
    comparisons.compare(
        router.probe.prediction(),
        reply.section("prediction"),
        Set.of(worker),
        false,
        verdict -> {
          assignment.task.probed.probing = false;
          if (verdict != Verdict.UNKNOWN) {
            quarantine.probed(worker, verdict == Verdict.AGREE);
          }
        });
  }

  @Override
  public void erased(Assignment assignment, String reason) {
    router.counters.erasures++;
    router.ledger.of(assignment.worker).erased(router.clock.nanos());
    waitForNextTurn(assignment.task);
  }

  @Override
  public void died(Assignment assignment) {
    waitForNextTurn(assignment.task);
  }

  @Override
  public void failed(Assignment assignment, int status, String message) {
    waitForNextTurn(assignment.task);
  }

  @Override
  public void returned(Task task) {
    if (!task.dead()) {
      router.enqueue(task);
    }
  }

  @Override
  public void late(Assignment assignment) {
    // It may still come, and nobody waits for it.
  }

  private static void waitForNextTurn(Task task) {
    task.probed.probing = false;
  }
}
