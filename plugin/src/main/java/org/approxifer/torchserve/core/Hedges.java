package org.approxifer.torchserve.core;

import java.util.function.BooleanSupplier;

/** Sends late work to one more worker, as far as the policy and its budget allow. */
public record Hedges(
    Plan plan,
    Schedule schedule,
    Lateness lateness,
    ExtraWork extra,
    Counters counters,
    Backlog backlog) {
  private static final int MAX_AT_ONCE = 3;
  private static final int MAX_RESENDS = 3;
  private static final long AVOID_NANOS = 250_000_000L;

  /** Sends a late query once more. */
  void hedge(Assignment late) {
    Query query = late.task.query;
    sendIf(
        () ->
            !late.done
                && !query.done()
                && plan.policy().hedge()
                && plan.policy().idempotent()
                && query.queued == 0
                && mayHaveOneMore(query),
        () -> !wouldDelayOthers(late) && affordable(query),
        () -> {
          counters.add(Counters.Count.HEDGES);
          backlog.addFirst(Task.hedge(query));
        });
  }

  /** The same for an encode or decode job, for which all clients of its group wait. */
  void resend(Assignment late) {
    Group group = late.task.group;
    sendIf(
        () ->
            !late.done
                && !late.task.dead()
                && (late.task.kind != Task.Kind.ENCODE || group.coded.isEmpty())
                && !group.broken
                && plan.policy().idempotent()
                && group.resends < MAX_RESENDS,
        () -> affordable(group.members.get(0)),
        () -> {
          group.resends++;
          again(late);
        });
  }

  /** The same for a parity, which is given up rather than waited with. */
  void parity(Assignment late) {
    if (!late.task.dead() && plan.policy().idempotent() && extra.tryTake()) {
      again(late);
    }
  }

  private void sendIf(BooleanSupplier wanted, BooleanSupplier affordable, Runnable send) {
    if (!wanted.getAsBoolean()) {
      return;
    } else if (affordable.getAsBoolean()) {
      send.run();
    } else {
      counters.add(Counters.Count.HEDGES_DENIED);
      schedule.after(lateness.nanos() / 2, () -> sendIf(wanted, affordable, send));
    }
  }

  /**
   * True if a hedge would go before queries that no worker has begun, and nothing says that the
   * late job's worker is to blame. A straggler is overtaken by a job that was begun later and took
   * half as long; where all are slow, sending work twice only takes places from clients who wait.
   */
  private boolean wouldDelayOthers(Assignment late) {
    return backlog.someQueryWaits() && !lateness.overtaken(late.handedNanos, schedule.now());
  }

  /**
   * True if one more copy is within the budget; or if half of the client's time is gone and nobody
   * waits for a worker: to spare the work would help no one then, and could cost this client the
   * answer. Such copies are owed to the budget.
   */
  private boolean affordable(Query query) {
    long age = schedule.now() - query.admittedNanos;
    return extra.tryTake()
        || 2 * age >= query.deadlineNanos - query.admittedNanos
            && backlog.waiting() == 0
            && extra.tryTakeOnCredit();
  }

  boolean mayHaveOneMore(Query query) {
    return query.outstanding.size() < Math.max(MAX_AT_ONCE, plan.stragglers() + 1);
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
