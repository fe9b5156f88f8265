package org.approxifer.torchserve.core;

/**
 * Whether answers are right. What is not overridden believes them, as {@link NoVerifier} does; the
 * others are in {@code core.verify}. Called under the router's lock.
 */
public interface Verifier {
  /** A request was let in; true if the verifier has sent it to workers itself. */
  default boolean admit(Query query) {
    return false;
  }

  /** A query has joined a group that fills. */
  default void joined(Query query) {}

  /** A group is full, or waited long enough; true if the verifier has its parities computed. */
  default boolean closed(Group group) {
    return false;
  }

  /** A worker computed a query; true if the verifier decides what becomes of the answer. */
  default boolean answered(Query query, Computation computation) {
    return false;
  }

  /** A worker computed a parity; true if the verifier has taken it. */
  default boolean parity(Group group, int index, String worker, byte[] prediction) {
    return false;
  }

  /** An answer to a member, or a parity, of a group is late. */
  default void late(Group group, int index) {}

  /** A parity of a group will not come. */
  default void lost(Group group, int index) {}

  /** A query that has been answered was with a worker that will not answer it. */
  default void lost(Query query) {}

  /** A query was answered with an error: no worker computes it any more. */
  default void ended(Query query) {}

  /** A group cannot be coded any more. */
  default void brokenUp(Group group) {}

  /** A query of a coded group is sent to a worker by itself. */
  default void alone(Query query) {}

  /** A query was decoded from the answers of others; returns what its client gets. */
  default Answer decoded(Query query, Answer answer) {
    return answer;
  }

  /** A decode job may have left out answers that it found wrong. */
  default void located(Group group, Reply reply) throws Unusable {}

  /** How many groups wait to be checked. */
  default int open() {
    return 0;
  }
}
