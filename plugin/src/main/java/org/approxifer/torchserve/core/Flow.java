package org.approxifer.torchserve.core;

/** What happens to one kind of work. The router calls it under its lock, once per assignment. */
interface Flow {
  /** The worker answered with a frame. */
  void answered(Assignment assignment, Answer answer, Reply reply) throws Reply.MalformedReply;

  /** The worker answered with something that cannot be used. */
  void erased(Assignment assignment, String reason);

  /** The worker died with the job in its hands. */
  void died(Assignment assignment);

  /** The job as a whole was refused, by the worker or by TorchServe. */
  void failed(Assignment assignment, int status, String message);

  /** Nobody began the job: it goes back to the head of its lane, and no harm is noted. */
  void returned(Task task);

  /** The job has not been answered in time. */
  void late(Assignment assignment);
}
