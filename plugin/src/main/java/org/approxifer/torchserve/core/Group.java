package org.approxifer.torchserve.core;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/**
 * The queries coded together and what has come back of them. Guarded by the router's lock.
 *
 * <p>In a systematic group coded query p below K is member p itself, and the padding of a short
 * group (p at or beyond its size m) repeats member p mod m: it is there exactly when that member's
 * prediction is.
 */
final class Group {
  private final Plan plan;
  final List<Query> members = new ArrayList<>();

  /** Predictions that came, by coded query index (a systematic group: members and parities). */
  final TreeMap<Integer, byte[]> predictions = new TreeMap<>();

  /** Coded queries made by the encode job, by index. */
  final TreeMap<Integer, byte[]> coded = new TreeMap<>();

  /** Coded query indices that will not come: their job failed. */
  final Set<Integer> lost = new HashSet<>();

  /** Parity, encode, coded, decode and screen jobs of the group that are with a worker. */
  final List<Assignment> outstanding = new ArrayList<>();

  /** Workers that were handed a job whose answer goes to the group, where it matters. */
  final List<String> used = new ArrayList<>();

  /** Who gave the prediction of a coded query, by index. */
  final Map<Integer, String> gave = new HashMap<>();

  /** Whether the answers fit together; null where nobody asks. */
  Screen screen;

  boolean closed;

  /** Waited long enough for all: a quorum will do. */
  boolean late;

  /** A decode job that answers the whole group is on its way. */
  boolean decoding;

  /** Cannot be coded any more: a member kills workers, or what came does not fit together. */
  boolean broken;

  /** Encode and decode jobs sent again because they were late. */
  int resends;

  Timers.Timer timer;

  Group(Plan plan) {
    this.plan = plan;
  }

  /** TorchServe's ids of the members' requests, as log lines and workers get them. */
  List<String> requestIds() {
    return members.stream().map(Query::requestId).toList();
  }

  /** A worker was handed a job of the group, a member's raw job included. */
  void handed(Assignment assignment) {
    Task task = assignment.task;
    if (task.query == null) {
      outstanding.add(assignment);
    }
    boolean located = plan.check() == Plan.Check.LOCATE && task.kind == Task.Kind.CODED;
    boolean screened = screen != null && (task.query != null || task.kind == Task.Kind.PARITY);
    if (located || screened) {
      used.add(assignment.worker);
    }
  }

  /** True if a worker may have a job of the group: who checks an answer did not give it. */
  boolean may(Task.Kind kind, String worker) {
    return switch (kind) {
      case RAW, HEDGE -> screen == null || !screen.spread || !used.contains(worker);
      case PARITY -> screen == null ? !heldBy(worker) : !used.contains(worker);
      case CODED -> plan.check() == Plan.Check.LOCATE ? !used.contains(worker) : !heldBy(worker);
      default -> true;
    };
  }

  boolean wantsParity(int parity) {
    return screen == null ? !settled() && !broken : screen.lacks(parity);
  }

  void add(Query query) {
    query.group = this;
    query.index = members.size();
    members.add(query);
  }

  boolean settled() {
    for (Query query : members) {
      if (!query.settled) {
        return false;
      }
    }
    return closed;
  }

  /** True if a worker holds an unanswered job of this group, its members' raw jobs included. */
  boolean heldBy(String worker) {
    for (Assignment assignment : outstanding) {
      if (assignment.worker.equals(worker)) {
        return true;
      }
    }
    for (Query query : members) {
      if (query.heldBy(worker)) {
        return true;
      }
    }
    return false;
  }

  /** How many of the N+1 coded queries have a prediction, padding counted with its member. */
  int available() {
    if (plan.mode() == Plan.Mode.CODED) {
      return predictions.size();
    }
    int count = 0;
    for (int position = 0; position < plan.queries(); position++) {
      if (predictions.containsKey(position % members.size())) {
        count++;
      }
    }
    for (int parity = plan.queries(); parity < plan.numWorkers(); parity++) {
      if (predictions.containsKey(parity)) {
        count++;
      }
    }
    return count;
  }

  /** True if late members of a systematic group may be decoded from what came. */
  boolean mayDecode() {
    if (screen != null && screen.stage == Screen.Stage.DONE) {
      return available() >= plan.queries(); // what does not fit has been taken away
    }
    return available() >= plan.quorum() && (screen == null || !plan.policy().verifyWait());
  }

  /** True if what came suffices to decode now. */
  boolean decodable() {
    int available = available();
    return available >= plan.numWorkers()
        || available >= plan.quorum() && (late || available + lost.size() >= plan.numWorkers());
  }

  /** True if no worker has a coded job of the group, and none that is there may have one. */
  boolean stalled(Ledger ledger) {
    return outstanding.stream().noneMatch(job -> job.task.kind == Task.Kind.CODED)
        && !ledger.anotherPresent(used::contains);
  }

  /** True if so many coded jobs failed that no quorum can come. */
  boolean hopeless() {
    return plan.numWorkers() - lost.size() < plan.quorum();
  }

  /** Members that have not been answered. */
  List<Query> waiting() {
    List<Query> waiting = new ArrayList<>();
    for (Query query : members) {
      if (!query.settled) {
        waiting.add(query);
      }
    }
    return waiting;
  }

  /** Members that a decode job is to answer now. */
  List<Query> toDecode() {
    List<Query> members = waiting();
    members.removeIf(
        plan.mode() == Plan.Mode.CODED ? query -> query.solo : query -> !query.decoding);
    return members;
  }

  /** Lets go of the tensors once nobody needs them. */
  void release() {
    predictions.clear();
    coded.clear();
  }
}
