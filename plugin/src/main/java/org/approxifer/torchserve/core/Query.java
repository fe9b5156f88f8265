package org.approxifer.torchserve.core;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.approxifer.torchserve.core.policy.Deadline;
import org.pytorch.serve.util.messages.InputParameter;

/** One client's request and what became of it. Guarded by the router's lock. */
public final class Query {
  /** What a verifier keeps with a query. */
  public interface Verification {
    /** True while one more answer is of use. */
    default boolean open() {
      return false;
    }

    /** True if some worker's answer is in. */
    default boolean begun() {
      return false;
    }

    /** True if this worker's answer is in: another's is wanted. */
    default boolean answeredBy(String worker) {
      return false;
    }
  }

  private static final Verification NONE = new Verification() {};

  /** TorchServe's id of the request: clients get it as x-request-id, log lines carry it. */
  public final String requestId;

  /** False for a request whose reply is not framed by our worker (describe). */
  final boolean framed;

  final long admittedNanos;

  /** Of its body; what it costs to compute grows with them, as far as anything tells. */
  final long bytes;

  /** How long the client waits, in ns; {@link Deadline#NONE} for ever. */
  final long patienceNanos;

  /** How long it was expected to wait for a worker, in ns. */
  long predictedNanos;

  /** It waits for its first hand-out: {@link Line} counts it. */
  boolean inLine;

  /** Monotonic time in ns at which it was settled. */
  long settledNanos;

  /** A copy of a late job settled it. */
  boolean copyAnswered;

  /** The first worker that answered it with an error of the server, or null. */
  String failedBy;

  /** It was sent to another worker for that. */
  boolean retried;

  /** The group it is coded with, or null. */
  public Group group;

  /** Position in the group, 0..K-1. */
  public int index = -1;

  public Verification verification = NONE;

  /** Its client has been answered, or is not to be. */
  public boolean settled;

  /** It ended without an answer: its client has left, or was sent an error. */
  public boolean abandoned;

  public int deaths;
  public int erasures;
  public int handOuts;

  /** Raw tasks in the backlog. */
  public int queued;

  /** Raw hand-outs that have not been answered. */
  public final List<Assignment> outstanding = new ArrayList<>(2);

  /** A reconstruction that waits for an exact answer; what the client gets if none comes. */
  Answer spare;

  boolean late;

  /** Never shares a batch with others: it may be what kills workers, or it cannot be coded. */
  boolean alone;

  /** In a coded group, but sent by itself: it cannot be coded with the others. */
  boolean solo;

  /** A decode task for it is on its way. */
  boolean decoding;

  private Client client;

  /** Workers whose answers could not be used; others are asked first. */
  private final Set<String> erasedBy = new HashSet<>(2);

  private long avoidUntil;

  Query(Client client, long admittedNanos, long policyPatienceNanos) {
    this.client = client;
    this.admittedNanos = admittedNanos;
    requestId = client.request().getRequestId();
    framed = client.framed();
    long own = client.deadlineNanos();
    patienceNanos = own > 0 ? own : policyPatienceNanos;
    long sum = 0;
    for (InputParameter parameter : client.request().getParameters()) {
      sum += parameter.getValue().length;
    }
    bytes = sum;
  }

  /** True if its client gets what there is by now, or an error. */
  boolean overdue(long now) {
    return now - admittedNanos > patienceNanos;
  }

  /** True if a client that waits no longer could not be answered in time by a job begun now. */
  boolean hopeless(long now, long median) {
    return patienceNanos != Deadline.NONE && now - admittedNanos + median > patienceNanos;
  }

  /** Who asked, and with what; null once nobody needs either. */
  public Client client() {
    return client;
  }

  /** True if nobody waits for another answer to it: no client, no check, no group. */
  boolean done() {
    return settled
        && (!verification.open() || abandoned)
        && (group == null || !group.verification.lacks(index));
  }

  /** Lets go of the request's body. */
  void release() {
    client = null;
  }

  /** A worker gave no usable answer: until then, in monotonic ns, any other is better. */
  void erasedBy(String worker, long until) {
    erasures++;
    erasedBy.add(worker);
    avoidUntil = until;
  }

  /** True if a worker may have a raw task of this query. */
  boolean may(String worker, long now) {
    return !heldBy(worker)
        && (now - avoidUntil >= 0 || !erasedBy.contains(worker))
        && !verification.answeredBy(worker)
        && (group == null || group.may(Task.Kind.RAW, worker));
  }

  /** True if every worker that holds it is late, or none holds it. */
  public boolean stuck() {
    for (Assignment assignment : outstanding) {
      if (!assignment.late) {
        return false;
      }
    }
    return true;
  }

  boolean heldBy(String worker) {
    for (Assignment assignment : outstanding) {
      if (assignment.worker.equals(worker)) {
        return true;
      }
    }
    return false;
  }

  /** True if a worker is to send the prediction beside the answer. */
  boolean wantsPrediction() {
    return group != null || verification != NONE;
  }
}
