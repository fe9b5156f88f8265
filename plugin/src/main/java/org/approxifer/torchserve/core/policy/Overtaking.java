package org.approxifer.torchserve.core.policy;

import java.util.ArrayDeque;
import java.util.HashMap;
import java.util.Map;

/**
 * Whether a job was overtaken: one of its class, begun later, needed less than half of the time
 * that it has had. Then its worker, or that very run, is to blame; where all are slow, nobody is
 * overtaken, and work that is sent twice only takes places from those who wait.
 */
public final class Overtaking {
  /** Of one class so many are kept; those that are dropped began long ago. */
  private static final int KEPT = 64;

  /**
   * By class the batches that nothing begun later was quicker than: both beginnings and times grow
   * from the first to the last.
   */
  private final Map<Integer, ArrayDeque<Done>> classes = new HashMap<>();

  private record Done(long begun, long nanos) {}

  /** A batch that began then took this long. */
  public void ended(int kind, long begun, long nanos) {
    ArrayDeque<Done> done = classes.computeIfAbsent(kind, made -> new ArrayDeque<>());
    ArrayDeque<Done> later = new ArrayDeque<>();
    while (!done.isEmpty() && done.getLast().begun - begun > 0) {
      later.addFirst(done.removeLast());
    }
    if (later.isEmpty() || later.getFirst().nanos > nanos) {
      while (!done.isEmpty() && done.getLast().nanos >= nanos) {
        done.removeLast();
      }
      done.addLast(new Done(begun, nanos));
    }
    done.addAll(later);
    if (done.size() > KEPT) {
      done.removeFirst();
    }
  }

  /** True if a batch that began then, and has not ended, was overtaken. */
  public boolean overtaken(int kind, long begun, long now) {
    ArrayDeque<Done> done = classes.get(kind);
    if (done != null) {
      for (Done other : done) {
        if (other.begun - begun > 0) {
          return 2 * other.nanos <= now - begun;
        }
      }
    }
    return false;
  }
}
