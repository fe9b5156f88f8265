package org.approxifer.torchserve.core;

/** How many clients wait for a worker to begin with them: what jobQueueSize bounds. */
final class Line {
  private int length;

  int length() {
    return length;
  }

  /** It waits, for the first time or again. */
  void enter(Query query) {
    if (!query.inLine && !query.settled) {
      query.inLine = true;
      length++;
    }
  }

  /** A worker has begun with it, or nobody waits for it. */
  void leave(Query query) {
    if (query.inLine) {
      query.inLine = false;
      length--;
    }
  }
}
