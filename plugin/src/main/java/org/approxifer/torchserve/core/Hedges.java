package org.approxifer.torchserve.core;

import org.approxifer.torchserve.core.policy.HedgeBudget;
import org.approxifer.torchserve.core.policy.Measures;
import org.approxifer.torchserve.core.policy.ServiceTimes;

/**
 * Copies of late jobs. A copy waits beside the clients until the job is so late that it is worth
 * its price, and the budget can pay for it; then whoever has nothing else to do gets it. Before
 * clients that wait it goes only where its job was overtaken.
 */
public final class Hedges {
  /** Runs of one query at once: one that hangs is not to take all workers with it. */
  private static final int MAX_RUNS = 2;

  /** The same where several workers compute each query anyway. */
  private static final int MAX_RUNS_VERIFIED = 3;

  private static final int MAX_RESENDS = 3;
  private static final long AVOID_NANOS = 250_000_000L;
  private static final int LOOKS_PER_SERVICE = 8;
  private static final long MIN_LOOK_NANOS = 1_000_000L;

  private final Plan plan;
  private final Schedule schedule;
  private final Lateness lateness;
  private final HedgeBudget budget;
  private final ServiceTimes times;
  private final Batches batches;
  private final Counters counters;
  private final Backlog backlog;
  private final int maxRuns;
  private boolean looking;

  Hedges(
      Plan plan,
      Schedule schedule,
      Lateness lateness,
      Measures measures,
      Batches batches,
      Counters counters,
      Backlog backlog) {
    this.plan = plan;
    this.schedule = schedule;
    this.lateness = lateness;
    budget = measures.budget();
    times = measures.times();
    this.batches = batches;
    this.counters = counters;
    this.backlog = backlog;
    boolean several = plan.check() != Plan.Check.NONE || plan.mode() == Plan.Mode.REPLICATED;
    maxRuns = Math.max(several ? MAX_RUNS_VERIFIED : MAX_RUNS, plan.stragglers() + 1);
  }

  /** Has a late query computed once more. */
  void hedge(Assignment late) {
    if (plan.policy().hedge() && !late.task.query.done()) {
      copy(late);
    }
  }

  /** The same for an encode or decode job, for which all clients of its group wait. */
  void resend(Assignment late) {
    if (late.task.kind != Task.Kind.ENCODE || late.task.group.coded.isEmpty()) {
      copy(late);
    }
  }

  /** The same for a parity, which is given up rather than waited with. */
  void parity(Assignment late) {
    if (!late.task.dead()) {
      copy(late);
    }
  }

  private void copy(Assignment late) {
    if (!plan.policy().idempotent()) {
      return;
    }
    backlog.addFirst(late.task.copyOf(late));
    if (!looking) {
      looking = true;
      look();
    }
  }

  /** Time alone makes copies ripe: who waits for work is to be asked again. */
  private void look() {
    long gap = Math.max(MIN_LOOK_NANOS, times.mean() / LOOKS_PER_SERVICE);
    schedule.after(
        gap,
        () -> {
          looking = backlog.someCopyWaits();
          if (looking) {
            look();
          }
        });
  }

  /** True if a copy that waits may start now. */
  boolean ripe(Task copy, long now) {
    Assignment late = copy.instead;
    return mayRun(copy) && budget.affords() && worthIt(late.batch, now);
  }

  private boolean worthIt(Batch batch, long now) {
    long after = lateness.after(batch);
    if (lateness.fixed()) {
      return true;
    }
    double price = budget.price();
    return after == ServiceTimes.UNKNOWN
        ? lateness.overtaken(batch, now)
        : now - batch.begun >= price * after;
  }

  private boolean mayRun(Task copy) {
    if (copy.query != null) {
      return copy.query.queued == 0 && copy.query.stuck() && mayHaveOneMore(copy.query);
    }
    Group group = copy.group;
    return copy.kind == Task.Kind.PARITY || !group.broken && group.resends < MAX_RESENDS;
  }

  /** True if a copy goes before clients whom no worker has begun with. */
  boolean pressing(Task copy) {
    return lateness.overtaken(copy.instead.batch, schedule.now());
  }

  /** A worker was handed a copy. */
  void handed(Assignment copy) {
    batches.copyStarts(copy);
    if (copy.task.query != null) {
      counters.add(Counters.Count.HEDGES);
    } else if (copy.task.kind != Task.Kind.PARITY) {
      copy.task.group.resends++;
    }
  }

  boolean mayHaveOneMore(Query query) {
    return query.outstanding.size() < maxRuns;
  }

  /** Has the same done by another worker if there is one soon, before all that waits. */
  public void again(Assignment assignment) {
    backlog.addFirst(another(assignment));
  }

  /** The same task for another worker, if there is one soon. */
  Task another(Assignment assignment) {
    return assignment.task.again(assignment.worker, schedule.now() + AVOID_NANOS);
  }
}
