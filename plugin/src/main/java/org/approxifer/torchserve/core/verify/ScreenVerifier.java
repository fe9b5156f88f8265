package org.approxifer.torchserve.core.verify;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.approxifer.torchserve.core.Answer;
import org.approxifer.torchserve.core.Backlog;
import org.approxifer.torchserve.core.Computation;
import org.approxifer.torchserve.core.Counters;
import org.approxifer.torchserve.core.Counters.Count;
import org.approxifer.torchserve.core.Decoding;
import org.approxifer.torchserve.core.Group;
import org.approxifer.torchserve.core.Hedges;
import org.approxifer.torchserve.core.Lateness;
import org.approxifer.torchserve.core.Ledger;
import org.approxifer.torchserve.core.Plan;
import org.approxifer.torchserve.core.Query;
import org.approxifer.torchserve.core.Schedule;
import org.approxifer.torchserve.core.Settlement;
import org.approxifer.torchserve.core.Task;

/**
 * Whether the answers of a systematic group fit together.
 *
 * <pre>
 *  close ─▶ parities ─▶ all answers, or enough if late ─▶ screen ─▶ fits ─▶ settle
 *                    │                                           ├▶ suspected ─▶ ask other workers
 *                    │                                           │            └▶ decode (on_wrong)
 *                    │                                           └▶ wrong ─▶ suspicion, probe
 *                    └▶ too few, or the screen failed ─▶ each member is checked by other workers
 * </pre>
 */
final class ScreenVerifier extends VoteVerifier {
  private static final long MIN_WATCH_NANOS = 5_000_000L;

  private final Plan plan;
  private final Schedule schedule;
  private final Lateness lateness;
  private final Counters counters;
  private final Backlog backlog;
  private final Ledger ledger;
  private final Decoding decoding;
  private final Voting voting;
  private final Probes probes;
  private final ScreenFlow flow;
  private int open;

  ScreenVerifier(
      Plan plan,
      Schedule schedule,
      Lateness lateness,
      Counters counters,
      Backlog backlog,
      Ledger ledger,
      Settlement settlement,
      Hedges hedges,
      Decoding decoding,
      Voting voting,
      Probes probes) {
    super(plan, backlog, voting);
    this.plan = plan;
    this.schedule = schedule;
    this.lateness = lateness;
    this.counters = counters;
    this.backlog = backlog;
    this.ledger = ledger;
    this.decoding = decoding;
    this.voting = voting;
    this.probes = probes;
    flow = new ScreenFlow(plan, settlement, hedges, this);
  }

  @Override
  public int open() {
    return open;
  }

  @Override
  boolean votes(Query query) {
    return query.client().exactOnly();
  }

  @Override
  public void joined(Query query) {
    if (query.index == 0) {
      query.group.verification = new Screen(plan, query.group);
      open++;
    }
    verify(query);
  }

  /** Its parities are computed like its members. */
  @Override
  public boolean closed(Group group) {
    Screen screen = Screen.of(group);
    screen.closedNanos = schedule.now();
    if (!screen.wanted()) {
      end(group, Screen.Stage.GIVEN_UP);
    }
    if (screen.open() && ledger.present() < screen.minWorkers()) {
      brokenUp(group);
    }
    if (!screen.open()) {
      return true;
    }
    for (int parity = plan.queries(); parity < plan.numWorkers(); parity++) {
      backlog.add(Task.parity(group, parity, Task.Lane.MAIN));
    }
    long wait = Math.max(2 * lateness.nanos(), plan.policy().groupDelayNanos());
    watch(group, Math.min(wait, lateness.patienceNanos() / 2));
    advance(group);
    return true;
  }

  @Override
  void first(Query query, Computation vote) {
    if (!entered(query, vote)) {
      counters.add(Count.UNSCREENED);
      voting.askOthers(query, false);
    }
  }

  @Override
  void afterwards(Query query, Computation vote) {
    entered(query, vote);
  }

  /** A worker computed a member; true if its group decides what becomes of the answer. */
  private boolean entered(Query query, Computation vote) {
    Group group = query.group;
    if (group == null || Screen.of(group).stage != Screen.Stage.WAITING) {
      return false;
    }
    byte[] prediction = vote.sound() ? vote.prediction() : null;
    if (prediction == null || !Screen.of(group).enter(query.index, vote.worker(), prediction)) {
      lost(group, query.index);
      return !Screen.of(group).open(); // given up, and all its answers are taken care of
    }
    advance(group);
    decoding.reconstruct(group);
    return true;
  }

  @Override
  public boolean parity(Group group, int index, String worker, byte[] prediction) {
    Screen screen = Screen.of(group);
    if (screen.lacks(index)) {
      if (!screen.enter(index, worker, prediction)) {
        group.lost.add(index);
      }
      advance(group);
      decoding.reconstruct(group);
    }
    return true;
  }

  @Override
  public void ended(Query query) {
    super.ended(query);
    if (query.group != null) {
      lost(query.group, query.index);
    }
  }

  @Override
  public void lost(Group group, int source) {
    if (Screen.of(group).lacks(source)) {
      group.lost.add(source);
      advance(group);
    }
  }

  /** A quorum will do, and a hedge may go where another answer is. */
  @Override
  public void late(Group group, int source) {
    Screen screen = Screen.of(group);
    if (screen.lacks(source)) {
      group.late = true;
      screen.spread &= ledger.anotherPresent(group.used::contains);
      advance(group);
    }
  }

  private void advance(Group group) {
    Screen screen = Screen.of(group);
    if (!group.closed || screen.stage != Screen.Stage.WAITING) {
      return;
    }
    boolean stalled = screen.stalled(ledger);
    group.late |= stalled;
    if (screen.ready()) {
      screen.stage = Screen.Stage.RUNNING;
      screen.spread = false;
      backlog.add(flow.task(group));
    } else if (stalled || screen.hopeless()) {
      brokenUp(group);
    }
  }

  private void watch(Group group, long delayNanos) {
    group.timer = schedule.after(delayNanos, () -> look(group));
  }

  /** Looks after a group that has not been screened yet. */
  private void look(Group group) {
    Screen screen = Screen.of(group);
    if (!screen.open()) {
      return;
    } else if (!screen.wanted()) {
      end(group, Screen.Stage.GIVEN_UP);
      return;
    }
    // Jobs that wait for their turn say that the server is busy, not that a worker is missing.
    boolean busy = screen.stage == Screen.Stage.WAITING && screen.queued(ledger);
    if (!busy) {
      group.late = true;
      screen.spread = false;
      advance(group);
    }
    long age = schedule.now() - screen.closedNanos;
    long deadline = lateness.patienceNanos();
    boolean soon = screen.stage == Screen.Stage.RUNNING || screen.coming();
    if (busy && age < 2 * deadline || soon && age < deadline / 2) {
      watch(group, Math.max(MIN_WATCH_NANOS, lateness.nanos() / 2));
    } else {
      brokenUp(group);
    }
  }

  /** The group will not be screened: what its members answered is checked one by one. */
  @Override
  public void brokenUp(Group group) {
    if (!Screen.of(group).open()) {
      return;
    }
    end(group, Screen.Stage.GIVEN_UP);
    for (Query query : group.members) {
      if (query.verification.begun() && query.verification.open()) {
        counters.add(Count.UNSCREENED);
        voting.askOthers(query, false);
      }
    }
  }

  private void end(Group group, Screen.Stage how) {
    Screen screen = Screen.of(group);
    if (!screen.open()) {
      return;
    }
    open--;
    screen.stage = how;
    screen.spread = false;
    if (group.closed) {
      group.timer.cancel(); // before, it is the one that closes the group
    }
    if (group.settled()) {
      group.release();
    }
  }

  /** A worker says which answers do not fit, and which members are therefore suspected. */
  void screened(Group group, Set<Integer> wrong, Set<Integer> suspected) {
    Screen screen = Screen.of(group);
    counters.add(Count.SCREENS);
    Set<String> suspects = new HashSet<>();
    for (int index : wrong) {
      String worker = screen.worker(index);
      if (worker != null && suspects.add(worker)) {
        probes.suspect(worker);
      }
    }
    List<Query> screened =
        group.members.stream()
            .filter(query -> group.predictions.containsKey(query.index) && !query.abandoned)
            .toList();
    wrong.forEach(index -> group.predictions.remove(screen.source(index)));
    suspected.forEach(group.predictions::remove);
    end(group, Screen.Stage.DONE);
    List<Query> again = new ArrayList<>();
    for (Query query : screened) {
      if (suspected.contains(query.index)) {
        counters.add(Count.SUSPECTED);
        again.add(query);
      } else {
        counters.add(Count.SCREENED);
        fits(query);
      }
    }
    Plan.Policy policy = plan.policy();
    if (policy.verifyWait() && policy.onWrong() == Plan.OnWrong.RECONSTRUCT) {
      decoding.decode(group, again);
    }
    decoding.reconstruct(group); // those that are late, from what fits together
    again.forEach(query -> voting.askOthers(query, true));
  }

  /** The answer fits to its group. Where others have answered too, they decide. */
  private void fits(Query query) {
    Votes votes = (Votes) query.verification;
    if (!votes.finished && votes.all.size() == 1) {
      votes.finished = true;
      voting.settle(query, votes.all.get(0), "screened");
    }
  }

  @Override
  public Answer decoded(Query query, Answer answer) {
    if (query.verification.open() && !query.verification.begun()) {
      ((Votes) query.verification).finished = true; // it was late; nothing speaks against anybody
    }
    boolean fits = Screen.of(query.group).stage == Screen.Stage.DONE;
    return answer.with(Voting.VERIFIED, fits ? "screened" : "false");
  }
}
