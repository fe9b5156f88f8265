package org.approxifer.torchserve.sim;

import java.util.PriorityQueue;

/** What is to happen when. Of things due at one time the one that was entered first comes first. */
final class Agenda {
  private final PriorityQueue<Entry> entries = new PriorityQueue<>();
  private long entered;

  void at(long nanos, Runnable action) {
    entries.add(new Entry(nanos, entered++, action));
  }

  /** When something is due next; Long.MAX_VALUE if nothing is. */
  long next() {
    Entry first = entries.peek();
    return first == null ? Long.MAX_VALUE : first.nanos;
  }

  void runNext() {
    entries.remove().action.run();
  }

  private record Entry(long nanos, long order, Runnable action) implements Comparable<Entry> {
    @Override
    public int compareTo(Entry other) {
      int byTime = Long.compare(nanos, other.nanos);
      return byTime == 0 ? Long.compare(order, other.order) : byTime;
    }
  }
}
