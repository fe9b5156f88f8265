package org.approxifer.torchserve.core;

import java.util.HashMap;
import java.util.Map;

/**
 * How far a group is on its way to a worker that tells whether its answers fit together. Guarded by
 * the router's lock.
 *
 * <p>Answers are there, or lost, by <em>source</em>: a member's position, or a parity's index. The
 * padding of a short group has its member for a source.
 */
final class Screen {
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

  private final Map<Integer, String> gave = new HashMap<>();

  Screen(Plan plan, Group group) {
    this.plan = plan;
    this.group = group;
    spread = plan.byzantine() > 0;
  }

  boolean open() {
    return stage == Stage.WAITING || stage == Stage.RUNNING;
  }

  /** True if somebody waits for it: in an audit the ledger does, else clients. */
  boolean wanted() {
    return open() && !(plan.policy().verifyWait() && group.settled());
  }

  /** True if an answer to this source would still be of use. */
  boolean lacks(int source) {
    return stage == Stage.WAITING && wanted() && !there(source) && !group.lost.contains(source);
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
    for (Map.Entry<Integer, String> other : gave.entrySet()) {
      boolean memberAndParity = other.getKey() < plan.queries() != source < plan.queries();
      if (other.getValue().equals(worker) && (plan.byzantine() > 0 || memberAndParity)) {
        return false;
      }
    }
    gave.put(source, worker);
    group.predictions.put(source, prediction);
    return true;
  }

  /** The worker whose answer stands at a coded query index, or null. */
  String worker(int index) {
    return gave.get(source(index));
  }

  int source(int index) {
    return index < plan.queries() ? index % group.members.size() : index;
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
  int leastWorkers() {
    int lost = plan.numWorkers() - plan.screenQuorum();
    return plan.byzantine() > 0
        ? group.members.size() + plan.numWorkers() - plan.queries() - lost
        : 1;
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
    boolean padding = source >= group.members.size() && source < plan.queries();
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
    return plan.policy().hedge()
        && plan.policy().idempotent()
        && query.handOuts == 1
        && query.outstanding.size() == 1;
  }
}
