package org.approxifer.torchserve.core;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;

/**
 * Who gets which task. All idle workers wait here at once; a task goes to the one that was busy
 * last among those that may have it, slow workers after all others: its caches are warm, and at low
 * load round-robin would pick the coldest of all each time. Where some workers hold weights that
 * parities need, they come after those that do not, so that they are free for the parity.
 */
final class HandOut {
  private final ReentrantLock lock;
  private final Clock clock;
  private final Backlog backlog;
  private final Ledger ledger;
  private final Holders holders;
  private final Payloads payloads;
  private final Consumer<Assignment> handed;
  private final Consumer<Assignment> takenBack;
  private final List<Waiter> waiters = new ArrayList<>();

  /** Workers whose current batch may not grow. */
  private final Set<String> fullBatches = new HashSet<>();

  /**
   * @param handed told of each hand-out, under the lock
   * @param takenBack told of a hand-out that the worker's interruption undid, under the lock
   */
  HandOut(
      ReentrantLock lock,
      Clock clock,
      Backlog backlog,
      Ledger ledger,
      Holders holders,
      Payloads payloads,
      Consumer<Assignment> handed,
      Consumer<Assignment> takenBack) {
    this.lock = lock;
    this.clock = clock;
    this.backlog = backlog;
    this.ledger = ledger;
    this.holders = holders;
    this.payloads = payloads;
    this.handed = handed;
    this.takenBack = takenBack;
  }

  /**
   * Waits until there is a task for a worker; never returns null. An interrupted worker takes
   * nothing with it: what it had been given goes back to the head of its lane.
   */
  Assignment await(String worker) throws InterruptedException {
    lock.lock();
    Waiter waiter = new Waiter(worker, lock.newCondition());
    try {
      if (Thread.interrupted()) {
        throw new InterruptedException();
      }
      waiters.add(waiter);
      holders.asked(worker);
      dispatch();
      while (waiter.assignment == null) {
        waiter.ready.await();
      }
      return waiter.assignment;
    } catch (InterruptedException e) {
      waiters.remove(waiter);
      // TorchServe interrupts a waiting worker's thread when the process is gone, or is to go.
      holders.left(worker);
      if (waiter.assignment != null) {
        takenBack.accept(waiter.assignment);
        backlog.addFirst(waiter.assignment.task);
        dispatch();
      }
      throw e;
    } finally {
      waiters.remove(waiter);
      lock.unlock();
    }
  }

  /** One more task for a worker's batch, or null; never waits. Under the lock. */
  Assignment more(String worker) {
    if (fullBatches.contains(worker)) {
      return null;
    }
    return take(worker, false);
  }

  /** The first task of a worker's batch if there is one now, else null. Under the lock. */
  Assignment first(String worker) {
    return take(worker, true);
  }

  /** Gives waiting workers what they may have. Under the lock; call it after every change. */
  void dispatch() {
    if (waiters.isEmpty() || backlog.isEmpty()) {
      return;
    }
    long now = clock.nanos();
    for (int choice = 0; choice < 4; choice += holders.none() ? 2 : 1) {
      for (int i = waiters.size() - 1; i >= 0; i--) {
        Waiter waiter = waiters.get(i);
        if (waiter.assignment == null && choice(waiter.worker, now) == choice) {
          waiter.assignment = take(waiter.worker, true);
          if (waiter.assignment != null) {
            waiter.ready.signal();
          }
        }
      }
    }
  }

  private int choice(String worker, long now) {
    return (ledger.of(worker).lastChoice(now) ? 2 : 0) + (holders.isHolder(worker) ? 1 : 0);
  }

  /** How many workers wait for work now. */
  int idle() {
    int idle = 0;
    for (Waiter waiter : waiters) {
      idle += waiter.assignment == null ? 1 : 0;
    }
    return idle;
  }

  private Assignment take(String worker, boolean first) {
    long now = clock.nanos();
    holders.asked(worker);
    // A quarantined worker waits long, and is asked each time anything happens.
    Task task =
        ledger.of(worker).quarantined
            ? backlog.takeExtra(candidate -> probes(candidate, worker, first))
            : backlog.take(candidate -> may(candidate, worker, first, now));
    if (task == null) {
      return null;
    }
    if (first) {
      fullBatches.remove(worker);
    }
    if (task.alone()) {
      fullBatches.add(worker);
    }
    Assignment assignment = new Assignment(task, worker, now, payloads.of(task));
    ledger.of(worker).handed(now);
    handed.accept(assignment);
    return assignment;
  }

  private boolean may(Task task, String worker, boolean first, long now) {
    if (!first && task.alone()) {
      return false;
    }
    if (worker.equals(task.avoid) && now - task.avoidUntil < 0) {
      return false;
    }
    return switch (task.kind) {
      case RAW, HEDGE -> mayQuery(task.query, worker, now);
      case PARITY, CODED -> task.group.may(task.kind, worker) && holders.may(task, worker);
      case ENCODE, DECODE, SCREEN -> true;
      case COMPARE -> task.comparison.mayJudge(worker, now);
      case PROBE -> worker.equals(task.only);
    };
  }

  private static boolean probes(Task task, String worker, boolean first) {
    return first && task.kind == Task.Kind.PROBE && worker.equals(task.only);
  }

  private static boolean mayQuery(Query query, String worker, long now) {
    return !query.heldBy(worker)
        && !query.avoids(worker, now)
        && (query.check == null || !query.check.votedBy(worker))
        && (query.group == null || query.group.may(Task.Kind.RAW, worker));
  }

  private static final class Waiter {
    final String worker;
    final Condition ready;
    Assignment assignment;

    Waiter(String worker, Condition ready) {
      this.worker = worker;
      this.ready = ready;
    }
  }
}
