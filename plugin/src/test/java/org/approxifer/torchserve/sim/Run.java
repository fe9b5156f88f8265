package org.approxifer.torchserve.sim;

import java.util.List;

/** A batch at work on a worker. */
final class Run {
  final int worker;
  final List<Job> jobs;
  final long begun;

  /** Its requests are answered with an error. */
  final boolean fails;

  /** The worker died under it. */
  boolean dead;

  Run(int worker, List<Job> jobs, long begun, boolean fails) {
    this.worker = worker;
    this.jobs = jobs;
    this.begun = begun;
    this.fails = fails;
  }
}
