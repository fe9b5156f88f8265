package org.approxifer.torchserve.core;

import java.util.ArrayDeque;
import java.util.EnumMap;
import java.util.Iterator;
import java.util.Map;
import java.util.function.Predicate;

/**
 * Tasks that wait for a worker, in three lanes: decode first (a client is waiting past lateness),
 * then raw, hedge, encode and coded tasks by age, then parities, which never delay the others.
 */
final class Backlog {
  private enum Lane {
    DECODE,
    MAIN,
    EXTRA
  }

  private final Map<Lane, ArrayDeque<Task>> lanes = new EnumMap<>(Lane.class);
  private int size;
  private int dropped;

  Backlog() {
    for (Lane lane : Lane.values()) {
      lanes.put(lane, new ArrayDeque<>());
    }
  }

  private static Lane lane(Task task) {
    return switch (task.kind) {
      case COMPARE -> task.comparison.behind ? Lane.MAIN : Lane.DECODE;
      case DECODE, SCREEN -> Lane.DECODE;
      case RAW, HEDGE, ENCODE, CODED -> Lane.MAIN;
      case PARITY -> task.group.screen == null ? Lane.EXTRA : Lane.MAIN;
      case PROBE -> Lane.EXTRA;
    };
  }

  void add(Task task) {
    lanes.get(lane(task)).addLast(task);
    count(task, 1);
  }

  /** Puts a task before all others of its lane: its query has waited already. */
  void addFirst(Task task) {
    lanes.get(lane(task)).addFirst(task);
    count(task, 1);
  }

  /** Takes the first task that is wanted, dropping on the way what nobody waits for any more. */
  Task take(Predicate<Task> wanted) {
    for (ArrayDeque<Task> lane : lanes.values()) {
      Task task = take(lane, wanted);
      if (task != null) {
        return task;
      }
    }
    return null;
  }

  /** The same among parities and probes only: what a worker without clients may have. */
  Task takeExtra(Predicate<Task> wanted) {
    return take(lanes.get(Lane.EXTRA), wanted);
  }

  private Task take(ArrayDeque<Task> lane, Predicate<Task> wanted) {
    if (lane.isEmpty()) {
      return null;
    }
    for (Iterator<Task> tasks = lane.iterator(); tasks.hasNext(); ) {
      Task task = tasks.next();
      boolean dead = task.dead();
      if (dead || wanted.test(task)) {
        tasks.remove();
        count(task, -1);
        if (!dead) {
          return task;
        }
        dropped++;
      }
    }
    return null;
  }

  /** Drops what nobody waits for any more: it holds bodies, and no worker may ask for long. */
  void sweep() {
    take(task -> false);
  }

  /** Tasks of clients that wait for a worker, parities not counted. */
  int waiting() {
    int waiting = 0;
    for (Map.Entry<Lane, ArrayDeque<Task>> lane : lanes.entrySet()) {
      if (lane.getKey() != Lane.EXTRA) {
        for (Task task : lane.getValue()) {
          waiting += task.dead() ? 0 : 1;
        }
      }
    }
    return waiting;
  }

  /** True if a query that no worker has begun waits for one. */
  boolean someQueryWaits() {
    for (Task task : lanes.get(Lane.MAIN)) {
      if (task.kind == Task.Kind.RAW && !task.dead()) {
        return true;
      }
    }
    return false;
  }

  boolean isEmpty() {
    return size == 0;
  }

  /** Tasks dropped since the start because what they were for had been settled. */
  int dropped() {
    return dropped;
  }

  private void count(Task task, int change) {
    size += change;
    if (task.query != null) {
      task.query.queued += change;
    }
  }
}
