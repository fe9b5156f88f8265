package org.approxifer.torchserve.sim;

/** One client's request and what became of it. */
final class Request {
  final int index;
  final long arrived;

  /** Its input's size; the mean is 1. */
  final double size;

  /** How much work its input is; known to nobody before. */
  final double weight;

  /** Runs that were begun for it. */
  int runs;

  /** When the first run for it began. */
  long begun = -1;

  /** How often it was answered; 1 in the end. */
  int answers;

  /** When the first answer came. */
  long answered = -1;

  /** 200, or the status of its error. */
  int status;

  Request(int index, long arrived, double size, double weight) {
    this.index = index;
    this.arrived = arrived;
    this.size = size;
    this.weight = weight;
  }

  void answer(int status, long now) {
    if (answers++ == 0) {
      this.status = status;
      answered = now;
    }
  }

  boolean ok() {
    return answers > 0 && status == 200;
  }

  long latency() {
    return answered - arrived;
  }
}
