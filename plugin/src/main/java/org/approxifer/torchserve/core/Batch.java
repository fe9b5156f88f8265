package org.approxifer.torchserve.core;

import java.util.ArrayList;
import java.util.List;
import org.approxifer.torchserve.core.policy.ServiceTimes;

/**
 * What one worker was handed at once. It works on the jobs together and answers them together, so
 * that time, lateness and load are those of the batch. Guarded by the router's lock.
 */
final class Batch {
  final String worker;
  final long begun;
  final Sharing what;

  /** The first of its process, which may be slow for that. */
  final boolean first;

  /** Nothing may join it. */
  final boolean alone;

  /** Shows what the worker is worth, since it is not trusted. */
  boolean trial;

  boolean late;

  /** A job was answered with an error, or with what is no answer. */
  boolean failed;

  /** A job will not be answered. */
  boolean lost;

  final List<Assignment> jobs = new ArrayList<>(1);
  Timers.Timer timer;
  private long bytes;
  private int open;

  Batch(Task task, String worker, long begun, boolean first) {
    this.worker = worker;
    this.begun = begun;
    this.first = first;
    what = Sharing.of(task);
    alone = Sharing.alone(task);
  }

  void add(Assignment assignment) {
    jobs.add(assignment);
    bytes += assignment.task.bytes();
    open++;
  }

  /** One job less is open; true if that was the last one. */
  boolean close() {
    return --open == 0;
  }

  boolean open() {
    return open > 0;
  }

  /** Its class; it changes while the batch is filled. */
  int kind() {
    return ServiceTimes.kind(what.ordinal(), bytes);
  }
}
