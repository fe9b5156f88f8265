package org.approxifer.torchserve.core;

/**
 * Whether answers are right. {@link NoVerifier} believes each; the others are in {@code
 * core.verify}. Called under the router's lock.
 */
public interface Verifier {
  /** A request was let in; true if the verifier has sent it to workers itself. */
  boolean admit(Query query);

  /** A query has joined a group that fills. */
  void joined(Query query);

  /** A group is full, or waited long enough; true if the verifier has its parities computed. */
  boolean closed(Group group);

  /** A worker computed a query; true if the verifier decides what becomes of the answer. */
  boolean answered(Query query, Computation computation);

  /** A worker computed a parity; true if the verifier has taken it. */
  boolean parity(Group group, int index, String worker, byte[] prediction);

  /** An answer to a member, or a parity, of a group is late. */
  void late(Group group, int index);

  /** A parity of a group will not come. */
  void lost(Group group, int index);

  /** A query that has been answered was with a worker that will not answer it. */
  void lost(Query query);

  /** A query was answered with an error: no worker computes it any more. */
  void ended(Query query);

  /** A group cannot be coded any more. */
  void brokenUp(Group group);

  /** A query of a coded group is sent to a worker by itself. */
  void alone(Query query);

  /** A query was decoded from the answers of others; returns what its client gets. */
  Answer decoded(Query query, Answer answer);

  /** A decode job may have left out answers that it found wrong. */
  void located(Group group, Reply reply) throws Unusable;

  /** How many groups wait to be checked. */
  int open();
}
