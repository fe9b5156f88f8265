package org.approxifer.torchserve.core.verify;

import java.util.Map;
import org.approxifer.torchserve.core.Group;
import org.approxifer.torchserve.core.Ledger;
import org.approxifer.torchserve.core.Plan;
import org.approxifer.torchserve.core.Query;
import org.approxifer.torchserve.core.Task;

/**
 * How far a group is on its way to a worker that tells whether its answers fit together. Guarded by
 * the router's lock.
 *
 * <p>Answers are there, or lost, by <em>source</em>: a member's position, or a parity's index. The
 * padding of a short group has its member for a source.
 */
final class Screen implements Group.Verification {
  /** Where it is. */
  enum Stage {
    /** Answers are still to come. */
    WAITING,
    /** A worker has them, or is to get them. */
    RUNNING,
    DONE,
    /** It will not be: its members are checked one by one. */
    GIVEN_UP
  }

  private final Plan plan;
  private final Group group;
  Stage stage = Stage.WAITING;

  /**
   * Jobs of the group go to workers that had no other, so that a worker that lies spoils one answer
   * only. Lifted for raw jobs when no such worker is there.
   */
  boolean spread;

  /** Monotonic time in ns. */
  long closedNanos;

  int failures;
  int resends;

  Screen(Plan plan, Group group) {
    this.plan = plan;
    this.group = group;
    spread = plan.byzantine() > 0;
  }

  static Screen of(Group group) {
    return (Screen) group.verification;
  }

  @Override
  public boolean open() {
    return stage == Stage.WAITING || stage == Stage.RUNNING;
  }

  @Override
  public boolean lacks(int source) {
    return stage == Stage.WAITING && wanted() && !there(source) && !group.lost.contains(source);
  }

  @Override
  public boolean wantsParity(Group group, int parity) {
    return lacks(parity);
  }

  @Override
  public boolean distinct(Task.Kind kind) {
    return kind == Task.Kind.PARITY || spread;
  }

  @Override
  public int quorum(Plan plan) {
    if (stage == Stage.DONE) {
      return plan.queries(); // what does not fit has been taken away
    }
    return plan.policy().verifyWait() ? Integer.MAX_VALUE : plan.quorum();
  }

  /** True if somebody waits for it: in an audit the ledger does, else clients. */
  boolean wanted() {
    return open() && !(plan.policy().verifyWait() && group.settled());
  }

  private boolean there(int source) {
    return group.predictions.containsKey(source);
  }

  /**
   * Notes an answer, unless its worker gave another that the two would be checked by.
   *
   * @return whether it was noted
   */
  boolean enter(int source, String worker, byte[] prediction) {
    for (Map.Entry<Integer, String> other : group.gave.entrySet()) {
      boolean memberAndParity = raw(other.getKey()) != raw(source);
      if (other.getValue().equals(worker) && (plan.byzantine() > 0 || memberAndParity)) {
        return false;
      }
    }
    group.gave.put(source, worker);
    group.predictions.put(source, prediction);
    return true;
  }

  /** The worker whose answer stands at a coded query index, or null. */
  String worker(int index) {
    return group.gave.get(source(index));
  }

  int source(int index) {
    return raw(index) ? index % group.members.size() : index;
  }

  /** True once what came suffices: all that can come, or a quorum once the group is late. */
  boolean ready() {
    int in = group.available();
    return in >= plan.screenQuorum() && (group.late || in >= possible());
  }

  boolean hopeless() {
    return possible() < plan.screenQuorum();
  }

  /** With fewer workers it cannot have a quorum of answers from distinct ones. */
  int minWorkers() {
    int parities = plan.numWorkers() - plan.queries();
    int spare = plan.numWorkers() - plan.screenQuorum();
    return plan.byzantine() > 0 ? group.members.size() + parities - spare : 1;
  }

  private int possible() {
    int possible = 0;
    for (int index = 0; index < plan.numWorkers(); index++) {
      int source = source(index);
      possible += there(source) || !group.lost.contains(source) ? 1 : 0;
    }
    return possible;
  }

  /** True if a job of a missing answer waits for its turn with a worker that is there. */
  boolean queued(Ledger ledger) {
    boolean unused = ledger.anotherPresent(group.used::contains);
    for (int source = 0; source < plan.numWorkers(); source++) {
      if (missing(source) && (unused || raw(source) && !spread) && inBacklog(source)) {
        return true;
      }
    }
    return false;
  }

  /** True if no worker has a job of a missing answer, and none that is there may have one. */
  boolean stalled(Ledger ledger) {
    for (int source = 0; source < plan.numWorkers(); source++) {
      if (missing(source) && handedOut(source, true)) {
        return false;
      }
    }
    return !queued(ledger);
  }

  /** True if a missing answer may be there soon: a worker has it in time, or its hedge is due. */
  boolean coming() {
    for (int source = 0; source < plan.numWorkers(); source++) {
      if (missing(source) && (handedOut(source, false) || raw(source) && hedgeDue(source))) {
        return true;
      }
    }
    return false;
  }

  private boolean missing(int source) {
    boolean padding = source >= group.members.size() && raw(source);
    return !padding && !there(source) && !group.lost.contains(source);
  }

  private boolean raw(int source) {
    return source < plan.queries();
  }

  private boolean inBacklog(int source) {
    return raw(source) ? group.members.get(source).queued > 0 : !handedOut(source, true);
  }

  private boolean handedOut(int source, boolean lateToo) {
    return (raw(source) ? group.members.get(source).outstanding : group.outstanding)
        .stream()
            .anyMatch(job -> (lateToo || !job.late) && (raw(source) || job.task.coded == source));
  }

  /** True if its only copy is late, and the hedge waits for the budget of extra work. */
  private boolean hedgeDue(int source) {
    Query query = group.members.get(source);
    boolean hedged = plan.policy().hedge() && plan.policy().idempotent();
    return hedged && query.handOuts == 1 && query.outstanding.size() == 1;
  }
}
