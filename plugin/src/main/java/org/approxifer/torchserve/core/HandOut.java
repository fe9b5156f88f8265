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
  private final Schedule schedule;
  private final Backlog backlog;
  private final Ledger ledger;
  private final Holders holders;
  private final Payloads payloads;
  private final Consumer<Assignment> handed;
  private final Consumer<Assignment> takenBack;

  /** Workers that wait, the one that was busy last at the end. */
  private final List<Waiter> waiters = new ArrayList<>();

  /** Those among them that may have client work, as of the ledger's change {@link #seen}. */
  private final List<Waiter> eligible = new ArrayList<>();

  private int seen = -1;

  /** Workers whose current batch may not grow. */
  private final Set<String> fullBatches = new HashSet<>();

  /**
   * @param handed told of each hand-out, under the lock
   * @param takenBack told of a hand-out that the worker's interruption undid, under the lock
   */
  HandOut(
      ReentrantLock lock,
      Schedule schedule,
      Backlog backlog,
      Ledger ledger,
      Holders holders,
      Payloads payloads,
      Consumer<Assignment> handed,
      Consumer<Assignment> takenBack) {
    this.lock = lock;
    this.schedule = schedule;
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
      if (!ledger.of(worker).quarantined()) {
        eligible.add(waiter);
      }
      holders.asked(worker);
      dispatch();
      while (waiter.assignment == null) {
        waiter.ready.await();
      }
      return waiter.assignment;
    } catch (InterruptedException e) {
      remove(waiter);
      // TorchServe interrupts a waiting worker's thread when the process is gone, or is to go.
      holders.left(worker);
      if (waiter.assignment != null) {
        takenBack.accept(waiter.assignment);
        backlog.addFirst(waiter.assignment.task);
        dispatch();
      }
      throw e;
    } finally {
      remove(waiter);
      lock.unlock();
    }
  }

  private void remove(Waiter waiter) {
    waiters.remove(waiter);
    eligible.remove(waiter);
  }

  /** One more task for a worker's batch, or null; never waits. Under the lock. */
  Assignment more(String worker) {
    return fullBatches.contains(worker) ? null : take(worker, false);
  }

  /** The first task of a worker's batch if there is one now, else null. Under the lock. */
  Assignment first(String worker) {
    return take(worker, true);
  }

  /** Gives waiting workers what they may have. Under the lock; call it after every change. */
  void dispatch() {
    if (seen != ledger.changes()) {
      seen = ledger.changes();
      eligible.clear();
      waiters.stream().filter(one -> !ledger.of(one.worker).quarantined()).forEach(eligible::add);
    }
    if (!backlog.isEmpty() && !eligible.isEmpty()) {
      dispatchAll();
    }
    if (backlog.someForOne()) {
      waiters.stream().filter(one -> backlog.someFor(one.worker)).forEach(this::give);
    }
  }

  private void dispatchAll() {
    long now = schedule.now();
    for (int choice = 0; choice < 4; choice += holders.none() ? 2 : 1) {
      for (int i = eligible.size() - 1; i >= 0 && !backlog.isEmpty(); i--) {
        Waiter waiter = eligible.get(i);
        if (waiter.assignment == null && choice(waiter.worker, now) == choice) {
          give(waiter);
        }
      }
    }
  }

  private void give(Waiter waiter) {
    if (waiter.assignment == null) {
      waiter.assignment = take(waiter.worker, true);
      if (waiter.assignment != null) {
        waiter.ready.signal();
      }
    }
  }

  private int choice(String worker, long now) {
    return (ledger.of(worker).lastChoice(now) ? 2 : 0) + (holders.isHolder(worker) ? 1 : 0);
  }

  /** How many workers wait for work now. */
  int idle() {
    return (int) waiters.stream().filter(waiter -> waiter.assignment == null).count();
  }

  private Assignment take(String worker, boolean first) {
    long now = schedule.now();
    holders.asked(worker);
    Ledger.Entry account = ledger.of(worker);
    String own = first ? worker : null;
    Task task =
        account.quarantined()
            ? backlog.takeFor(own)
            : backlog.take(candidate -> may(candidate, worker, first, now), own);
    if (task == null) {
      return null;
    }
    if (first) {
      fullBatches.remove(worker);
    }
    if (task.alone()) {
      fullBatches.add(worker);
    }
    Assignment assignment = new Assignment(task, worker, now, task.payload(payloads));
    account.handed(now);
    handed.accept(assignment);
    return assignment;
  }

  private boolean may(Task task, String worker, boolean first, long now) {
    return (first || !task.alone())
        && !task.avoids(worker, now)
        && task.may(worker, now)
        && (task.coded < 0 || holders.may(task, worker));
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
