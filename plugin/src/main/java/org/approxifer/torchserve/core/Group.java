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
public final class Group {
  /** What a verifier keeps with a group. */
  public interface Verification {
    /** True while the answers are still to be checked, for which they are kept. */
    default boolean open() {
      return false;
    }

    /** True if the check lacks the answer to a member, or a parity. */
    default boolean lacks(int index) {
      return false;
    }

    /** True if somebody waits for a parity. */
    default boolean wantsParity(Group group, int parity) {
      return !group.settled() && !group.broken;
    }

    /** True if jobs of this kind go to workers that had no other job of the group. */
    default boolean distinct(Task.Kind kind) {
      return false;
    }

    /** From so many answers on late members are decoded from the others. */
    default int quorum(Plan plan) {
      return plan.quorum();
    }
  }

  private static final Verification NONE = new Verification() {};

  private final Plan plan;
  public final List<Query> members = new ArrayList<>();

  /** Predictions that came, by coded query index (a systematic group: members and parities). */
  public final TreeMap<Integer, byte[]> predictions = new TreeMap<>();

  /** Coded queries made by the encode job, by index. */
  final TreeMap<Integer, byte[]> coded = new TreeMap<>();

  /** Coded query indices that will not come: their job failed. */
  public final Set<Integer> lost = new HashSet<>();

  /** Jobs of the group, its members' raw jobs not among them, that are with a worker. */
  public final List<Assignment> outstanding = new ArrayList<>();

  /** Workers that were handed a job whose answer goes to the group. */
  public final List<String> used = new ArrayList<>();

  /** Who gave the prediction of a coded query, by index. */
  public final Map<Integer, String> gave = new HashMap<>();

  public Verification verification = NONE;

  public boolean closed;

  /** Waited long enough for all: a quorum will do. */
  public boolean late;

  /** A decode job that answers the whole group is on its way. */
  boolean decoding;

  /** Cannot be coded any more: a member kills workers, or what came does not fit together. */
  boolean broken;

  /** Encode and decode jobs sent again because they were late. */
  int resends;

  /** What is done about the group next if nothing comes before. */
  public Timers.Timer timer;

  Group(Plan plan) {
    this.plan = plan;
  }

  /** TorchServe's ids of the members' requests, as log lines and workers get them. */
  public List<String> requestIds() {
    return members.stream().map(query -> query.requestId).toList();
  }

  void add(Query query) {
    query.group = this;
    query.index = members.size();
    members.add(query);
  }

  /** True if a coded query is computed with the model's own weights. */
  boolean ofBase(int coded) {
    return plan.models().get(coded).equals(Plan.BASE);
  }

  /**
   * Bytes of what a job of the group computes, about: a parity is one query, whatever it carries.
   */
  long bytes(Task.Kind kind, int index) {
    if (kind == Task.Kind.CODED) {
      return coded.containsKey(index) ? coded.get(index).length : 1;
    }
    long sum = members.stream().mapToLong(query -> query.bytes).sum();
    return kind == Task.Kind.PARITY ? sum / members.size() : sum;
  }

  /** A worker was handed a job of the group, a member's raw job included. */
  void handed(Assignment assignment) {
    Task.Kind kind = assignment.task.kind;
    if (!kind.ofOneQuery()) {
      outstanding.add(assignment);
    }
    if (answersGroup(kind)) {
      used.add(assignment.worker);
    }
  }

  /** It did not begin it. */
  void notBegun(Assignment assignment) {
    if (answersGroup(assignment.task.kind)) {
      used.remove(assignment.worker);
    }
  }

  private boolean answersGroup(Task.Kind kind) {
    boolean member = plan.mode() == Plan.Mode.SYSTEMATIC && kind.ofOneQuery();
    return member || kind == Task.Kind.PARITY || kind == Task.Kind.CODED;
  }

  /** True if a worker may have a job of the group: who checks an answer did not give it. */
  boolean may(Task.Kind kind, String worker) {
    if (verification.distinct(kind)) {
      return !used.contains(worker);
    }
    return kind.ofOneQuery() || !heldBy(worker);
  }

  public boolean settled() {
    for (Query query : members) {
      if (!query.settled) {
        return false;
      }
    }
    return closed;
  }

  /** True if a worker holds an unanswered job of this group, its members' raw jobs included. */
  private boolean heldBy(String worker) {
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
  public int available() {
    if (plan.mode() == Plan.Mode.CODED) {
      return predictions.size();
    }
    int count = 0;
    for (int index = 0; index < plan.numWorkers(); index++) {
      int source = index < plan.queries() ? index % members.size() : index;
      count += predictions.containsKey(source) ? 1 : 0;
    }
    return count;
  }

  /** True if what came of a fully coded group suffices to decode now. */
  boolean decodable() {
    int available = available();
    return available >= plan.numWorkers()
        || available >= plan.quorum() && (late || available + lost.size() >= plan.numWorkers());
  }

  /** True if no worker has a coded job of the group, and none that is there may have one. */
  boolean stalled(Ledger ledger) {
    return verification.distinct(Task.Kind.CODED)
        && outstanding.stream().noneMatch(job -> job.task.kind == Task.Kind.CODED)
        && !ledger.anotherPresent(used::contains);
  }

  /** True if so many coded jobs failed that no quorum can come. */
  boolean hopeless() {
    return plan.numWorkers() - lost.size() < plan.quorum();
  }

  /** Members that have not been answered. */
  List<Query> waiting() {
    return members.stream().filter(query -> !query.settled).toList();
  }

  /** Members that a decode job is to answer now. */
  List<Query> toDecode() {
    boolean all = plan.mode() == Plan.Mode.CODED;
    return waiting().stream().filter(query -> all ? !query.solo : query.decoding).toList();
  }

  /**
   * Lets go of the tensors once nobody needs them, and of the requests of a settled group: a late
   * job, or the timer, would hold them for seconds.
   */
  public void release() {
    predictions.clear();
    coded.clear();
    if (settled()) {
      timer.cancel();
      members.stream().filter(Query::done).forEach(Query::release);
    }
  }
}
