package org.approxifer.torchserve.core.verify;

import java.util.Set;
import java.util.function.Consumer;
import org.approxifer.torchserve.core.Answer;
import org.approxifer.torchserve.core.Assignment;
import org.approxifer.torchserve.core.Backlog;
import org.approxifer.torchserve.core.ByHand;
import org.approxifer.torchserve.core.Flow;
import org.approxifer.torchserve.core.KnownQuery;
import org.approxifer.torchserve.core.Ledger;
import org.approxifer.torchserve.core.Payloads;
import org.approxifer.torchserve.core.Plan;
import org.approxifer.torchserve.core.Probation;
import org.approxifer.torchserve.core.Reply;
import org.approxifer.torchserve.core.Schedule;
import org.approxifer.torchserve.core.Task;
import org.approxifer.torchserve.core.verify.CompareTask.Verdict;
import org.pytorch.serve.util.messages.RequestInput;

/**
 * A stored query with its known prediction, sent to every worker at a low rate.
 *
 * <pre>
 *  probe ─▶ same as known ─▶ right
 *        └▶ compare ─▶ right, or confirmed wrong
 * </pre>
 */
final class Probes implements Flow, Probation {
  /** A worker in quarantine, or a suspect, is probed so often and no more. */
  private static final long SOON_NANOS = 500_000_000L;

  private final long everyNanos;
  private final Schedule schedule;
  private final Ledger ledger;
  private final Backlog backlog;
  private final Comparisons comparisons;
  private final Quarantine quarantine;
  private KnownQuery known;

  Probes(
      Plan plan,
      Schedule schedule,
      Ledger ledger,
      Backlog backlog,
      Comparisons comparisons,
      Quarantine quarantine) {
    everyNanos = plan.policy().probeEveryNanos();
    this.schedule = schedule;
    this.ledger = ledger;
    this.backlog = backlog;
    this.comparisons = comparisons;
    this.quarantine = quarantine;
  }

  @Override
  public void probeWith(KnownQuery known) {
    if (everyNanos > 0) {
      this.known = known;
      quarantine.workersAreProbed();
    }
  }

  @Override
  public void onRestart(Consumer<String> restart) {
    quarantine.onRestart(restart);
  }

  @Override
  public ByHand quarantine(String worker) {
    return quarantine.enterByHand(worker);
  }

  @Override
  public ByHand readmit(String worker) {
    return quarantine.leaveByHand(worker);
  }

  @Override
  public void guard(Set<String> workers) {
    quarantine.neverAll();
    for (String worker : workers) {
      boolean soon = ledger.of(worker).quarantined();
      probe(worker, soon ? Math.min(SOON_NANOS, everyNanos) : everyNanos);
    }
  }

  /** Notes that a worker may have answered wrong, and brings its next probe forward. */
  void suspect(String worker) {
    if (ledger.has(worker)) { // it may have been scaled away since
      ledger.of(worker).suspicions++;
      probe(worker, SOON_NANOS);
    }
  }

  @Override
  public void unusable(String worker) {
    if (ledger.has(worker)) {
      probe(worker, SOON_NANOS);
    }
  }

  private void probe(String worker, long every) {
    Ledger.Entry entry = ledger.of(worker);
    long now = schedule.now();
    boolean due = entry.probes == 0 || now - entry.lastProbe >= every;
    if (known != null && due && !entry.probing) {
      entry.probing = true;
      entry.probes++;
      entry.lastProbe = now;
      backlog.add(new ProbeTask(worker, entry));
    }
  }

  @Override
  public void answered(Assignment assignment, Answer answer, Reply reply) {
    String worker = assignment.worker;
    if (!reply.has("prediction")) {
      ended(assignment);
      quarantine.probed(worker, false);
      return;
    }
    comparisons.compare(
        known.prediction(),
        reply.section("prediction"),
        Set.of(worker),
        Task.Lane.URGENT,
        verdict -> {
          ended(assignment);
          if (verdict != Verdict.UNKNOWN) {
            quarantine.probed(worker, verdict == Verdict.AGREE);
          }
        });
  }

  @Override
  public void refused(Assignment assignment, int status, String message) {
    ended(assignment);
    quarantine.probed(assignment.worker, false);
  }

  @Override
  public void failed(Assignment assignment, int status, String message) {
    ended(assignment); // until its next turn
  }

  private static void ended(Assignment assignment) {
    ((ProbeTask) assignment.task).entry.probing = false;
  }

  private final class ProbeTask extends Task {
    private final Ledger.Entry entry;

    ProbeTask(String worker, Ledger.Entry entry) {
      super(Kind.PROBE, Lane.EXTRA, null, worker);
      this.entry = entry;
    }

    @Override
    protected Flow flow() {
      return Probes.this;
    }

    @Override
    protected boolean dead() {
      return entry.gone;
    }

    @Override
    protected RequestInput payload(Payloads payloads) {
      return payloads.known(known);
    }
  }
}
