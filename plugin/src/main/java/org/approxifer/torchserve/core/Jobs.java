package org.approxifer.torchserve.core;

import java.util.ArrayList;
import java.util.Set;
import java.util.function.Predicate;
import org.approxifer.torchserve.core.Counters.Count;
import org.approxifer.torchserve.core.policy.ServiceTimes;
import org.approxifer.torchserve.core.policy.Trust;

/**
 * Jobs that are with a worker, and what first becomes of their answers. Under the router's lock.
 *
 * @param out those that have not been answered
 */
record Jobs(
    Set<Assignment> out,
    Schedule schedule,
    Counters counters,
    Lateness lateness,
    Trust trust,
    Batches batches,
    Line line,
    Crowd crowd,
    Hedges hedges,
    Faults faults,
    Ledger ledger,
    Holders holders,
    Backlog backlog,
    Settlement settlement,
    Probation probation,
    QueryFlow queries,
    GroupFlow groups) {
  /** A worker was handed a task. */
  void handed(Assignment assignment) {
    Task task = assignment.task;
    out.add(assignment);
    counters.handed(task.kind);
    if (task.instead != null) {
      hedges.handed(assignment);
    }
    if (task.query != null) {
      task.query.outstanding.add(assignment);
      if (task.query.handOuts++ == 0) {
        counters.queued(assignment.handedNanos - task.query.admittedNanos);
        begun(task.query);
      }
    } else if (task.kind == Task.Kind.ENCODE) {
      task.group.members.forEach(this::begun);
    }
    if (task.group != null) {
      task.group.handed(assignment);
    }
    if (assignment.batch.timer == null) {
      watch(assignment.batch);
    }
  }

  private void begun(Query query) {
    if (query.inLine) {
      line.leave(query);
      crowd.begun(query);
    }
  }

  private void watch(Batch batch) {
    long after = lateness.after(batch);
    long wait =
        after == ServiceTimes.UNKNOWN ? Lateness.LOOK_NANOS : batch.begun + after - schedule.now();
    batch.timer = schedule.after(wait, () -> look(batch));
  }

  /** Called by a timer, under the lock. */
  private void look(Batch batch) {
    if (batch.open()) {
      if (lateness.late(batch, schedule.now())) {
        batch.late = true;
        new ArrayList<>(batch.jobs).forEach(this::late);
      } else {
        watch(batch); // its class has changed, or is not known
      }
    }
  }

  /** It was interrupted before it began: the task goes back to the head of its lane. */
  void takenBack(Assignment assignment) {
    finish(assignment, Batches.End.LOST);
    notBegun(assignment);
    Task task = assignment.task;
    if (task.query == null) {
      backlog.addFirst(task.plain());
      return;
    }
    task.query.handOuts--;
    inLineAgain(task.query);
    if (task.isCopy()) {
      queries.sendAgain(task.query, task.plain());
    } else {
      backlog.addFirst(task);
    }
  }

  private void inLineAgain(Query query) {
    if (query.handOuts == 0) {
      line.enter(query);
    }
  }

  /**
   * A worker answered.
   *
   * @param reply what it said, or null if that is not framed
   * @param reason why it cannot be used, or null
   */
  void answered(Assignment assignment, Answer answer, Reply reply, Unusable reason) {
    boolean well = reason == null && (reply == null || reply.well());
    if (!finish(assignment, well ? Batches.End.WELL : Batches.End.FAILED)) {
      counters.add(Count.DUPLICATE_CALLBACKS);
      return;
    }
    Task task = assignment.task;
    long service = schedule.now() - assignment.handedNanos;
    Ledger.Entry worker = ledger.of(assignment.worker);
    worker.answered(service, !assignment.late);
    counters.served(task.kind, service);
    if (well) {
      faults.answered(assignment);
    }
    try {
      if (reason != null) {
        throw reason;
      } else if (reply == null) {
        settlement.answer(task.query, answer, Outcome.EXACT);
        return;
      }
      if (reply.erasure() == null) {
        worker.usable();
      }
      Reply.Refusal error = reply.error();
      if (error != null) {
        flow(task).refused(assignment, error.status(), error.message());
      } else {
        flow(task).answered(assignment, answer, reply);
      }
    } catch (Unusable e) {
      if (reply == null || !reply.unloaded()) {
        trust.failed(assignment.worker);
      }
      erased(assignment, e.getMessage());
    }
  }

  private void erased(Assignment assignment, String reason) {
    counters.add(Count.ERASURES);
    ledger.of(assignment.worker).erased(schedule.now());
    // What is no number may be the client's own doing; a probe tells.
    probation.unusable(assignment.worker);
    settlement.note(
        true,
        "worker "
            + assignment.worker
            + " gave no usable answer to a "
            + assignment.described()
            + ": "
            + reason);
    flow(assignment.task).erased(assignment, reason);
  }

  /** A worker died, or TorchServe answered for it. */
  void failed(Assignment assignment, int status, String message) {
    boolean died = message != null && message.startsWith("Worker died");
    if (!finish(assignment, died ? Batches.End.LOST : Batches.End.FAILED)) {
      counters.add(Count.DUPLICATE_CALLBACKS);
    } else if (died) {
      counters.add(Count.WORKER_DEATHS);
      settlement.note(
          true, "worker " + assignment.worker + " died with a " + assignment.described());
      ledger.of(assignment.worker).died(schedule.now());
      holders.left(assignment.worker);
      trust.left(assignment.worker);
      flow(assignment.task).died(assignment);
    } else {
      ledger.of(assignment.worker).returned();
      flow(assignment.task).failed(assignment, status, message);
    }
  }

  /** TorchServe put a job back that its worker never started (scale-down). */
  void returned(Assignment assignment) {
    if (finish(assignment, Batches.End.LOST)) {
      notBegun(assignment);
      counters.add(Count.RETURNED);
      putBack(assignment.task);
    }
  }

  private void notBegun(Assignment assignment) {
    ledger.of(assignment.worker).returned();
    if (assignment.task.group != null) {
      assignment.task.group.notBegun(assignment);
    }
  }

  private void putBack(Task task) {
    if (task.query != null) {
      queries.returned(task.plain());
      inLineAgain(task.query);
    } else if (!task.dead()) {
      backlog.addFirst(task.plain());
    }
  }

  private void late(Assignment assignment) {
    Task task = assignment.task;
    // Nobody waits for a parity that has come last; the group goes on without it.
    if (assignment.done || task.kind == Task.Kind.PARITY && task.lane == Task.Lane.EXTRA) {
      return;
    }
    counters.add(Count.LATE);
    assignment.late = true;
    ledger.of(assignment.worker).late(schedule.now());
    flow(assignment.task).late(assignment);
  }

  private Flow flow(Task task) {
    return switch (task.kind) {
      case RAW, HEDGE, SHADOW -> queries;
      case PARITY, ENCODE, CODED, DECODE -> groups;
      case SCREEN, COMPARE, PROBE -> task.flow();
    };
  }

  /** True the first time; undoes what the hand-out noted. */
  private boolean finish(Assignment assignment, Batches.End how) {
    if (assignment.done) {
      return false;
    }
    assignment.done = true;
    out.remove(assignment);
    batches.ended(assignment, how);
    Task task = assignment.task;
    if (task.query != null) {
      task.query.outstanding.remove(assignment);
    } else if (task.group != null) {
      task.group.outstanding.remove(assignment);
    }
    return true;
  }

  /** Puts back what its worker left with. */
  void forget(Predicate<Assignment> forgotten) {
    for (Assignment assignment : new ArrayList<>(out)) {
      if (forgotten.test(assignment) && finish(assignment, Batches.End.LOST)) {
        counters.add(Count.UNRETURNED);
        settlement.note(
            true, "worker " + assignment.worker + " left with a " + assignment.described());
        putBack(assignment.task);
      }
    }
  }
}
