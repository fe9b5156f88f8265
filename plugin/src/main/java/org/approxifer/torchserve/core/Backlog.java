package org.approxifer.torchserve.core;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;

/**
 * Tasks that wait for a worker, in three lanes: decode first (a client is waiting past lateness),
 * then raw, hedge, encode and coded tasks by age, then parities, which never delay the others.
 * Tasks that one worker alone may have, its probes, wait beside them.
 */
public final class Backlog {
  private final List<ArrayDeque<Task>> lanes = new ArrayList<>(Task.Lane.values().length);
  private final Map<String, Task> own = new HashMap<>();
  private int size;
  private int dropped;

  Backlog() {
    for (int lane = 0; lane < Task.Lane.values().length; lane++) {
      lanes.add(new ArrayDeque<>());
    }
  }

  /** Puts a task behind all others of its lane. */
  public void add(Task task) {
    if (keep(task)) {
      return;
    }
    lane(task.lane).addLast(task);
    count(task, 1);
  }

  /** Puts a task before all others of its lane: its query has waited already. */
  public void addFirst(Task task) {
    if (keep(task)) {
      return;
    }
    lane(task.lane).addFirst(task);
    count(task, 1);
  }

  private boolean keep(Task task) {
    if (task.only == null) {
      return false;
    }
    dropped += own.put(task.only, task) == null ? 0 : 1;
    return true;
  }

  /**
   * Takes the first task that is wanted, dropping on the way what nobody waits for any more.
   *
   * @param worker who may also have what is kept for it alone, or null
   */
  Task take(Predicate<Task> wanted, String worker) {
    for (int lane = 0; lane < lanes.size(); lane++) {
      Task task = lane == Task.Lane.EXTRA.ordinal() ? takeFor(worker) : null;
      task = task == null ? take(lanes.get(lane), wanted) : task;
      if (task != null) {
        return task;
      }
    }
    return null;
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

  /** Takes the task that is kept for a worker, or null. */
  Task takeFor(String worker) {
    Task task = own.isEmpty() ? null : own.remove(worker);
    if (task != null && task.dead()) {
      dropped++;
      return null;
    }
    return task;
  }

  /** True if a task is kept for one worker, whichever that is. */
  boolean someForOne() {
    return !own.isEmpty();
  }

  /** True if a task is kept for this worker. */
  boolean someFor(String worker) {
    return own.containsKey(worker);
  }

  /** Drops what nobody waits for any more: it holds bodies, and no worker may ask for long. */
  void sweep() {
    take(task -> false, null);
    for (Iterator<Task> tasks = own.values().iterator(); tasks.hasNext(); ) {
      if (tasks.next().dead()) {
        tasks.remove();
        dropped++;
      }
    }
  }

  /** Tasks of clients that wait for a worker, parities not counted. */
  int waiting() {
    int waiting = 0;
    for (int lane = 0; lane < Task.Lane.EXTRA.ordinal(); lane++) {
      for (Task task : lanes.get(lane)) {
        waiting += task.dead() ? 0 : 1;
      }
    }
    return waiting;
  }

  /** True if a query that no worker has begun waits for one. */
  boolean someQueryWaits() {
    for (Task task : lane(Task.Lane.MAIN)) {
      if (task.kind == Task.Kind.RAW && !task.dead()) {
        return true;
      }
    }
    return false;
  }

  /** True if nothing waits but what is kept for one worker each. */
  boolean isEmpty() {
    return size == 0;
  }

  /** Tasks dropped since the start because what they were for had been settled. */
  int dropped() {
    return dropped;
  }

  private ArrayDeque<Task> lane(Task.Lane lane) {
    return lanes.get(lane.ordinal());
  }

  private void count(Task task, int change) {
    size += change;
    if (task.query != null) {
      task.query.queued += change;
    }
  }
}
