package org.approxifer.torchserve.core;

import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The life of a group.
 *
 * <pre>
 *  systematic:  join … close ─▶ parity jobs in idle slots ─▶ a member is late ─▶ quorum ─▶ decode
 *  coded:       join … close ─▶ encode ─▶ N+1 coded jobs ─▶ all, or a quorum once late ─▶ decode
 * </pre>
 */
final class GroupFlow implements Flow {
  private static final int MAX_DEATHS = 2;

  private final Plan plan;
  private final Schedule schedule;
  private final Lateness lateness;
  private final ExtraWork parityWork;
  private final Counters counters;
  private final Backlog backlog;
  private final Ledger ledger;
  private final Holders holders;
  private final Settlement settlement;
  private final Hedges hedges;
  private final Decoding decoding;
  private final Verifier verifier;
  private final QueryFlow queries;
  private final Decoded decoded;
  private Group filling;

  /**
   * @param parityWork parities have a budget of their own: they must be there before anything is
   *     late
   */
  GroupFlow(
      Plan plan,
      Schedule schedule,
      Lateness lateness,
      ExtraWork parityWork,
      Counters counters,
      Backlog backlog,
      Ledger ledger,
      Holders holders,
      Settlement settlement,
      Hedges hedges,
      Decoding decoding,
      Verifier verifier,
      QueryFlow queries) {
    this.plan = plan;
    this.schedule = schedule;
    this.lateness = lateness;
    this.parityWork = parityWork;
    this.counters = counters;
    this.backlog = backlog;
    this.ledger = ledger;
    this.holders = holders;
    this.settlement = settlement;
    this.hedges = hedges;
    this.decoding = decoding;
    this.verifier = verifier;
    this.queries = queries;
    decoded = new Decoded(plan, schedule, settlement, verifier);
  }

  /** Adds a query to the group that is filling, which closes at K queries or after the delay. */
  void join(Query query) {
    if (filling == null) {
      counters.add(Counters.Count.GROUPS);
      Group group = new Group(plan);
      group.timer = schedule.after(plan.policy().groupDelayNanos(), () -> close(group));
      filling = group;
    }
    Group group = filling;
    group.add(query);
    verifier.joined(query);
    if (plan.mode() == Plan.Mode.SYSTEMATIC) {
      backlog.add(Task.raw(query));
    }
    if (group.members.size() == plan.queries()) {
      close(group);
    }
  }

  int open() {
    return filling == null ? 0 : 1;
  }

  private void close(Group group) {
    if (group.closed) {
      return;
    }
    group.closed = true;
    group.timer.cancel();
    filling = null;
    counters.closed(group);
    if (verifier.closed(group)) {
      decoding.reconstruct(group);
    } else if (group.settled()) {
      group.release();
    } else if (plan.mode() == Plan.Mode.SYSTEMATIC) {
      // A parity of fewer members costs as much and stands for less than the hedge that it saves.
      boolean worth = 2 * group.members.size() >= plan.queries();
      for (int parity = plan.queries(); worth && parity < plan.numWorkers(); parity++) {
        if (parityWork.tryTake()) {
          backlog.add(Task.parity(group, parity, Task.Lane.EXTRA));
        }
      }
      decoding.reconstruct(group);
    } else if (group.verification.distinct(Task.Kind.CODED) && ledger.present() < plan.quorum()) {
      queries.goAlone(group); // each coded job wants a worker of its own
    } else {
      backlog.add(Task.encode(group));
    }
  }

  /** The reply to a parity, encode, coded or decode job. */
  @Override
  public void answered(Assignment assignment, Answer answer, Reply reply) throws Unusable {
    Task task = assignment.task;
    switch (task.kind) {
      case ENCODE -> encoded(task.group, reply);
      case DECODE -> decoded.settle(task.group, reply);
      default -> {
        if (reply.unloaded()) {
          holders.failed(assignment.worker, task.coded);
        }
        if (reply.erasure() != null) {
          throw new Unusable(reply.erasure());
        }
        predicted(task.group, task.coded, assignment.worker, reply.need("prediction"));
      }
    }
  }

  private void predicted(Group group, int index, String worker, byte[] prediction) {
    if (verifier.parity(group, index, worker, prediction)) {
      return;
    }
    group.gave.put(index, worker);
    if (plan.mode() == Plan.Mode.SYSTEMATIC) {
      decoding.predicted(group, index, prediction);
    } else if (!group.settled() && !group.broken) {
      group.predictions.put(index, prediction);
      decodeIfReady(group);
    }
  }

  private void encoded(Group group, Reply reply) throws Unusable {
    if (!group.coded.isEmpty() || group.broken || group.settled()) {
      return; // a second encode job, sent because the first was late
    }
    Map<Integer, Reply.Refusal> errors = reply.errors(group);
    Set<Integer> alone = reply.alone(group);
    boolean some =
        group.waiting().stream()
            .map(query -> query.index)
            .anyMatch(index -> !errors.containsKey(index) && !alone.contains(index));
    for (int index = 0; some && index < plan.numWorkers(); index++) {
      group.coded.put(index, reply.need("coded" + index));
    }
    errors.forEach(
        (index, error) ->
            settlement.error(group.members.get(index), error.status(), error.message()));
    alone.forEach(index -> queries.goSolo(group.members.get(index)));
    if (!some) {
      return;
    }
    group.coded.keySet().forEach(index -> backlog.add(Task.coded(group, index)));
    // Coded jobs that no worker picks are late too, if only after most of the deadline.
    group.timer = schedule.after(lateness.patienceNanos() / 2, () -> quorumWillDo(group));
  }

  private void quorumWillDo(Group group) {
    group.late = true;
    decodeIfReady(group);
  }

  /** Decodes a fully coded group once all answers are in, or a quorum is and the rest is late. */
  private void decodeIfReady(Group group) {
    if (plan.mode() != Plan.Mode.CODED || group.decoding || group.broken || group.settled()) {
      return;
    }
    boolean stalled = group.stalled(ledger);
    group.late |= stalled;
    if (group.decodable()) {
      group.decoding = true;
      backlog.add(Task.decode(group));
    } else if (stalled) {
      queries.goAlone(group);
    }
  }

  @Override
  public void died(Assignment assignment) {
    Task task = assignment.task;
    switch (task.kind) {
      case PARITY -> {
        holders.failed(assignment.worker, task.coded); // loading may be what killed it
        queries.breakUp(task.group);
      }
      case CODED -> {
        if (++task.deaths < MAX_DEATHS) {
          hedges.again(assignment);
          decodeIfReady(task.group); // perhaps no other worker may have it
        } else {
          failed(task);
        }
      }
      default -> {
        // The job held its members' own requests, and one of them may be what kills workers. A
        // second copy, sent because the first was late, says nothing new of them.
        if (!task.group.broken) {
          List<Query> held =
              task.kind == Task.Kind.ENCODE ? task.group.waiting() : task.group.toDecode();
          held.forEach(query -> query.deaths++);
        }
        queries.goAlone(task.group);
      }
    }
  }

  @Override
  public void failed(Assignment assignment, int status, String message) {
    failed(assignment.task);
  }

  /** The job will not be done: the group goes on without, or its members go alone. */
  private void failed(Task task) {
    Group group = task.group;
    switch (task.kind) {
      case PARITY -> {
        verifier.lost(group, task.coded);
        group.lost.add(task.coded);
      }
      case CODED -> {
        group.lost.add(task.coded);
        if (group.hopeless() && !group.settled()) {
          queries.goAlone(group);
        }
        decodeIfReady(group);
      }
      default -> {
        if (plan.mode() == Plan.Mode.CODED) {
          queries.goAlone(group);
        } else {
          queries.breakUp(group); // hedges of its members go on
        }
      }
    }
  }

  @Override
  public void late(Assignment assignment) {
    Task task = assignment.task;
    switch (task.kind) {
      case CODED -> quorumWillDo(task.group);
      case PARITY -> {
        verifier.late(task.group, task.coded);
        hedges.parity(assignment);
      }
      default -> hedges.resend(assignment);
    }
  }
}
