package org.approxifer.torchserve.core;

/** What happens to one kind of work. The router calls it under its lock, once per assignment. */
public interface Flow {
  /** The worker did the job. */
  void answered(Assignment assignment, Answer answer, Reply reply) throws Unusable;

  /** The worker refused the job: what it was asked is not possible. */
  default void refused(Assignment assignment, int status, String message) {
    failed(assignment, status, message);
  }

  /** The worker answered with something that cannot be used; it has been counted. */
  default void erased(Assignment assignment, String reason) {
    failed(assignment, 503, reason);
  }

  /** The worker died with the job in its hands. */
  default void died(Assignment assignment) {
    failed(assignment, 500, "Worker died.");
  }

  /** TorchServe says that the job will not be done. */
  void failed(Assignment assignment, int status, String message);

  /** The job has not been answered in time. */
  default void late(Assignment assignment) {}
}
