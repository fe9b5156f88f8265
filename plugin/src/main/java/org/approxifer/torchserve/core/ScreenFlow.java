package org.approxifer.torchserve.core;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * Whether the answers of a systematic group fit together.
 *
 * <pre>
 *  close ─▶ parities ─▶ all answers, or enough once late ─▶ screen ─▶ fits ─▶ settle
 *                    │                                             ├▶ doubtful ─▶ ask other workers
 *                    │                                             │           └▶ decode (on_wrong)
 *                    │                                             └▶ wrong ─▶ suspicion, probe
 *                    └▶ too few, or the screen failed ─▶ each member is checked by other workers
 * </pre>
 */
final class ScreenFlow implements Flow {
  private static final int MOST_FAILURES = 2;
  private static final int MOST_RESENDS = 2;
  private static final long LEAST_WATCH_NANOS = 5_000_000L;

  private final Router router;
  private final Plan plan;
  private final Settlement settlement;
  private int open;

  ScreenFlow(Router router, Settlement settlement) {
    this.router = router;
    this.plan = router.plan;
    this.settlement = settlement;
  }

  /** Groups whose answers have not been screened, nor given up. */
  int open() {
    return open;
  }

  /** A group begins to fill. */
  void begin(Group group) {
    group.screen = new Screen(plan, group);
    open++;
  }

  /** The group is full, or waited long enough: its parities are computed like its members. */
  void closed(Group group) {
    Screen screen = group.screen;
    screen.closedNanos = router.clock.nanos();
    if (!screen.wanted()) {
      end(group, Screen.Stage.GIVEN_UP);
    }
    if (screen.open() && router.ledger.present() < screen.leastWorkers()) {
      giveUp(group);
    }
    if (!screen.open()) {
      return;
    }
    for (int parity = plan.queries(); parity < plan.numWorkers(); parity++) {
      router.enqueue(Task.ofGroup(Task.Kind.PARITY, group, parity));
    }
    long wait = Math.max(2 * router.lateness.nanos(), plan.policy().groupDelayNanos());
    watch(group, Math.min(wait, plan.policy().deadlineNanos() / 2));
    advance(group);
  }

  /**
   * A worker answered a member.
   *
   * @param prediction what it is screened with, or null if it cannot be
   * @return whether the group decides what becomes of the answer
   */
  boolean entered(Query query, String worker, byte[] prediction) {
    Group group = query.group;
    if (group == null || group.screen == null) {
      return false;
    } else if (group.screen.stage != Screen.Stage.WAITING) {
      return false;
    } else if (prediction == null || !group.screen.enter(query.index, worker, prediction)) {
      lost(query);
      return !group.screen.open(); // given up, and all its answers are taken care of
    }
    advance(group);
    router.groups.reconstruct(group);
    return true;
  }

  /** A worker computed a parity. */
  void entered(Group group, int parity, String worker, byte[] prediction) {
    if (group.screen.lacks(parity)) {
      if (!group.screen.enter(parity, worker, prediction)) {
        group.lost.add(parity);
      }
      advance(group);
      router.groups.reconstruct(group);
    }
  }

  /** A member will not be answered, or not with anything that can be screened. */
  void lost(Query query) {
    if (query.group != null && query.group.screen != null) {
      lost(query.group, query.index);
    }
  }

  void lost(Group group, int source) {
    if (group.screen.lacks(source)) {
      group.lost.add(source);
      advance(group);
    }
  }

  /** A job of the group is late: a quorum will do, and a hedge may go where another answer is. */
  void jobLate(Group group) {
    group.late = true;
    if (!router.ledger.anotherPresent(group.used::contains)) {
      group.screen.spread = false;
    }
    advance(group);
  }

  private void advance(Group group) {
    Screen screen = group.screen;
    if (!group.closed || screen.stage != Screen.Stage.WAITING) {
      return;
    }
    boolean stalled = screen.stalled(router.ledger);
    group.late |= stalled;
    if (screen.ready()) {
      screen.stage = Screen.Stage.RUNNING;
      screen.spread = false;
      router.enqueue(Task.ofGroup(Task.Kind.SCREEN, group, -1));
    } else if (stalled || screen.hopeless()) {
      giveUp(group);
    }
  }

  private void watch(Group group, long delayNanos) {
    group.timer = router.after(delayNanos, () -> look(group));
  }

  /** Looks after a group that has not been screened yet. */
  private void look(Group group) {
    Screen screen = group.screen;
    if (!screen.open()) {
      return;
    } else if (!screen.wanted()) {
      end(group, Screen.Stage.GIVEN_UP);
      return;
    }
    // Jobs that wait for their turn say that the server is busy, not that a worker is missing.
    boolean busy = screen.stage == Screen.Stage.WAITING && screen.queued(router.ledger);
    if (!busy) {
      group.late = true;
      screen.spread = false;
      advance(group);
    }
    long age = router.clock.nanos() - screen.closedNanos;
    boolean soon = screen.stage == Screen.Stage.RUNNING || screen.coming();
    if (busy && age < 2 * plan.policy().deadlineNanos()
        || soon && age < plan.policy().deadlineNanos() / 2) {
      watch(group, Math.max(LEAST_WATCH_NANOS, router.lateness.nanos() / 2));
    } else {
      giveUp(group);
    }
  }

  /** The group will not be screened: what its members answered is checked one by one. */
  void giveUp(Group group) {
    if (group.screen == null || !group.screen.open()) {
      return;
    }
    end(group, Screen.Stage.GIVEN_UP);
    for (Query query : group.members) {
      if (!query.check.votes.isEmpty() && !query.check.finished) {
        router.counters.unscreened++;
        router.checks.askOthers(query, false);
      }
    }
  }

  private void end(Group group, Screen.Stage how) {
    if (!group.screen.open()) {
      return;
    }
    open--;
    group.screen.stage = how;
    group.screen.spread = false;
    if (group.closed) {
      group.timer.cancel(); // before, it is the one that closes the group
    }
    if (group.settled()) {
      group.release();
    }
  }

  @Override
  public void answered(Assignment assignment, Answer answer, Reply reply)
      throws Reply.MalformedReply {
    Group group = assignment.task.group;
    if (reply.object("error") != null) {
      again(assignment);
      return;
    }
    Set<Integer> wrong = reply.indices("wrong", plan.numWorkers());
    Set<Integer> doubtful = reply.indices("doubtful", group.members.size());
    if (group.screen.stage != Screen.Stage.RUNNING) {
      return; // a second job, sent because the first was late
    }
    router.counters.screens++;
    Set<String> suspects = new HashSet<>();
    for (int index : wrong) {
      String worker = group.screen.worker(index);
      if (worker != null && suspects.add(worker)) {
        router.probing.suspect(worker);
      }
    }
    List<Query> screened = new ArrayList<>();
    for (Query query : group.members) {
      if (group.predictions.containsKey(query.index) && !query.abandoned) {
        screened.add(query);
      }
    }
    wrong.forEach(index -> group.predictions.remove(group.screen.source(index)));
    doubtful.forEach(group.predictions::remove);
    end(group, Screen.Stage.DONE);
    List<Query> doubted = new ArrayList<>();
    for (Query query : screened) {
      if (doubtful.contains(query.index)) {
        router.counters.doubtful++;
        doubted.add(query);
      } else {
        router.counters.screened++;
        router.checks.screened(query);
      }
    }
    if (plan.policy().verifyWait() && plan.policy().onWrong() == Plan.OnWrong.RECONSTRUCT) {
      router.groups.decode(group, doubted);
    }
    router.groups.reconstruct(group); // those that are late, from what fits together
    doubted.forEach(query -> router.checks.askOthers(query, true));
  }

  @Override
  public void erased(Assignment assignment, String reason) {
    router.queries.noteErasure(assignment, reason);
    again(assignment);
  }

  @Override
  public void died(Assignment assignment) {
    again(assignment);
  }

  @Override
  public void failed(Assignment assignment, int status, String message) {
    again(assignment);
  }

  private void again(Assignment assignment) {
    Group group = assignment.task.group;
    if (group.screen.stage != Screen.Stage.RUNNING) {
      return;
    } else if (++group.screen.failures < MOST_FAILURES) {
      router.enqueueFirst(router.queries.again(assignment));
    } else {
      settlement.note(
          true,
          "the answers of requests "
              + String.join(" ", group.requestIds())
              + " could not be"
              + " screened; other workers check them");
      giveUp(group);
    }
  }

  @Override
  public void returned(Task task) {
    if (!task.dead()) {
      router.enqueueFirst(task);
    }
  }

  @Override
  public void late(Assignment assignment) {
    if (!assignment.task.dead() && ++assignment.task.group.screen.resends <= MOST_RESENDS) {
      router.enqueueFirst(router.queries.again(assignment));
    }
  }
}
