package org.approxifer.torchserve.core;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;

/**
 * Who gets which task. All idle workers wait here at once; a task goes to the one that was busy
 * last among those that may have it: its caches are warm, and at low load round-robin would pick
 * the coldest of all each time. Whose last answer was late comes after the others, and who is not
 * trusted after all. Where some workers hold weights that parities need, they come after those that
 * do not, so that they are free for the parity.
 */
final class HandOut {
  private final ReentrantLock lock;
  private final Schedule schedule;
  private final Backlog backlog;
  private final Ledger ledger;
  private final Holders holders;
  private final Batches batches;
  private final Entitlement entitlement;
  private final Crowd crowd;
  private final Payloads payloads;
  private final Consumer<Assignment> handed;
  private final Consumer<Assignment> takenBack;

  /** Workers that wait, the one that was busy last at the end. */
  private final List<Waiter> waiters = new ArrayList<>();

  /** Those among them that may have client work, as of the ledger's change {@link #seen}. */
  private final List<Waiter> eligible = new ArrayList<>();

  private int seen = -1;

  /** What a trusted worker has just been handed, for a shadow; or null. */
  private Query fresh;

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
      Batches batches,
      Entitlement entitlement,
      Crowd crowd,
      Payloads payloads,
      Consumer<Assignment> handed,
      Consumer<Assignment> takenBack) {
    this.lock = lock;
    this.schedule = schedule;
    this.backlog = backlog;
    this.ledger = ledger;
    this.holders = holders;
    this.batches = batches;
    this.entitlement = entitlement;
    this.crowd = crowd;
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
      asked(worker);
      dispatch();
      while (waiter.assignment == null) {
        waiter.ready.await();
      }
      return waiter.assignment;
    } catch (InterruptedException e) {
      remove(waiter);
      // TorchServe interrupts a waiting worker's thread when the process is gone, or is to go.
      left(worker);
      if (waiter.assignment != null) {
        takenBack.accept(waiter.assignment);
        dispatch();
      }
      throw e;
    } finally {
      remove(waiter);
      lock.unlock();
    }
  }

  private void asked(String worker) {
    holders.asked(worker);
    entitlement.asked(worker);
  }

  /** A worker's process has ended. */
  void left(String worker) {
    holders.left(worker);
    entitlement.left(worker);
  }

  private void remove(Waiter waiter) {
    waiters.remove(waiter);
    eligible.remove(waiter);
  }

  /** One more task for a worker's batch, or null; never waits. Under the lock. */
  Assignment more(String worker) {
    Batch batch = batches.of(worker);
    return batch == null || batch.alone ? null : take(worker, batch);
  }

  /** The first task of a worker's batch if there is one now, else null. Under the lock. */
  Assignment first(String worker) {
    return take(worker, null);
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
    if (fresh != null) {
      shadow(fresh);
      fresh = null;
    }
    if (backlog.someForOne()) {
      waiters.stream().filter(one -> backlog.someFor(one.worker)).forEach(this::give);
    }
    crowd.observe();
  }

  private void dispatchAll() {
    int step = holders.none() ? 2 : 1;
    for (int choice = 0; choice < 6 && !backlog.isEmpty(); choice += step) {
      for (int i = eligible.size() - 1; i >= 0 && !backlog.isEmpty(); i--) {
        Waiter waiter = eligible.get(i);
        if (waiter.assignment == null && choice(waiter.worker) == choice) {
          give(waiter);
        }
      }
    }
  }

  /** Shows a worker that is not trusted what one that is has been handed. */
  private void shadow(Query query) {
    for (int i = eligible.size() - 1; i >= 0; i--) {
      Waiter waiter = eligible.get(i);
      if (waiter.assignment == null && entitlement.shadow(query, waiter.worker)) {
        give(waiter, hand(Task.shadow(query), waiter.worker, null));
        return;
      }
    }
  }

  private void give(Waiter waiter) {
    if (waiter.assignment == null) {
      give(waiter, take(waiter.worker, null));
    }
  }

  private static void give(Waiter waiter, Assignment assignment) {
    waiter.assignment = assignment;
    if (assignment != null) {
      waiter.ready.signal();
    }
  }

  private int choice(String worker) {
    return 2 * entitlement.rank(worker) + (holders.isHolder(worker) ? 1 : 0);
  }

  /** How many workers wait for work now. */
  int idle() {
    return (int) waiters.stream().filter(waiter -> waiter.assignment == null).count();
  }

  /**
   * Takes the next task for a worker.
   *
   * @param batch that it is to join, or null for the first of a batch
   */
  private Assignment take(String worker, Batch batch) {
    long now = schedule.now();
    asked(worker);
    Task task;
    do {
      task =
          ledger.of(worker).quarantined()
              ? batch == null ? backlog.takeFor(worker) : null
              : backlog.take(candidate -> may(candidate, worker, batch, now), worker);
    } while (task != null && crowd.dropped(task));
    return task == null ? null : hand(task, worker, batch);
  }

  private Assignment hand(Task task, String worker, Batch batch) {
    Assignment assignment = new Assignment(task, worker, schedule.now(), task.payload(payloads));
    assignment.batch = batch == null ? batches.begin(task, worker) : batch;
    assignment.batch.add(assignment);
    ledger.of(worker).handed(assignment.handedNanos);
    if (entitlement.handed(assignment)) {
      fresh = task.query;
    }
    handed.accept(assignment);
    return assignment;
  }

  private boolean may(Task task, String worker, Batch batch, long now) {
    return (batch == null || !Sharing.alone(task))
        && could(task, worker, now)
        && entitlement.may(task, worker, other -> could(task, other, now));
  }

  private boolean could(Task task, String worker, long now) {
    return !task.avoids(worker, now)
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
