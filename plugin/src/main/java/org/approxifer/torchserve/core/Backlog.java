package org.approxifer.torchserve.core;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;

/**
 * Tasks that wait for a worker, in four lanes: first what takes no forward or for which a client
 * waits past lateness, then raw and coded tasks by age, then copies of late jobs, then parities,
 * which never delay the others. Tasks that one worker alone may have, its probes, wait beside them.
 */
public final class Backlog {
  private final List<ArrayDeque<Task>> lanes = new ArrayList<>(Task.Lane.values().length);
  private final Map<String, Task> own = new HashMap<>();
  private final Predicate<Task> pressing;
  private final Runnable denied;
  private int size;
  private int queued;
  private int dropped;

  /**
   * @param pressing which copies of late jobs go before clients that wait
   * @param denied told of each copy that was not sent before its job ended
   */
  Backlog(Predicate<Task> pressing, Runnable denied) {
    this.pressing = pressing;
    this.denied = denied;
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
      Task task = null;
      if (lane == Task.Lane.MAIN.ordinal()) {
        task = pressing(wanted);
      } else if (lane == Task.Lane.EXTRA.ordinal()) {
        task = takeFor(worker);
      }
      task = task == null ? take(lanes.get(lane), wanted) : task;
      if (task != null) {
        return task;
      }
    }
    return null;
  }

  private Task pressing(Predicate<Task> wanted) {
    return take(lane(Task.Lane.COPY), copy -> pressing.test(copy) && wanted.test(copy));
  }

  private Task take(ArrayDeque<Task> lane, Predicate<Task> wanted) {
    if (lane.isEmpty()) {
      return null;
    }
    for (Iterator<Task> tasks = lane.iterator(); tasks.hasNext(); ) {
      Task task = tasks.next();
      boolean dead = task.over();
      if (dead || wanted.test(task)) {
        tasks.remove();
        count(task, -1);
        if (!dead) {
          return task;
        }
        drop(task);
      }
    }
    return null;
  }

  private void drop(Task task) {
    if (task.instead == null) {
      dropped++;
    } else {
      denied.run();
    }
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

  /** Tasks of clients that wait for a worker, parities and copies of late jobs not counted. */
  int waiting() {
    int waiting = 0;
    for (Task.Lane lane : List.of(Task.Lane.URGENT, Task.Lane.MAIN)) {
      for (Task task : lane(lane)) {
        waiting += task.dead() ? 0 : 1;
      }
    }
    return waiting;
  }

  /** The same with those that have died since the last sweep: at no cost. */
  int queued() {
    return queued;
  }

  /** True if a copy of a late job waits until it is worth its price. */
  boolean someCopyWaits() {
    return !lane(Task.Lane.COPY).isEmpty();
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
    queued += task.lane == Task.Lane.URGENT || task.lane == Task.Lane.MAIN ? change : 0;
    if (task.instead == null && task.query != null) {
      task.query.queued += change;
    }
  }
}
