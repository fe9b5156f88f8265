package org.approxifer.torchserve.core;

import java.util.PriorityQueue;

/**
 * Actions at points of a {@link Clock}'s time. Someone must call {@link #runDue()}: a thread in the
 * server, the test in a test.
 */
public final class Timers {
  private final Clock clock;
  private final PriorityQueue<Timer> queue = new PriorityQueue<>();
  private Runnable wake = () -> {};

  public Timers(Clock clock) {
    this.clock = clock;
  }

  /** Sets what is called when a timer is added that is due before all others. */
  public synchronized void onEarlier(Runnable wake) {
    this.wake = wake;
  }

  /** Runs {@code action} once, {@code delayNanos} from now, unless it is cancelled before. */
  public Timer after(long delayNanos, Runnable action) {
    Timer timer = new Timer(clock.nanos() + Math.max(0, delayNanos), action);
    Runnable notify = null;
    synchronized (this) {
      queue.add(timer);
      if (queue.peek() == timer) {
        notify = wake;
      }
    }
    if (notify != null) {
      notify.run();
    }
    return timer;
  }

  /** Runs all that is due, outside any lock of this object, and returns how many ran. */
  public int runDue() {
    int ran = 0;
    for (Timer timer = nextDue(); timer != null; timer = nextDue()) {
      Runnable action = timer.action;
      if (action != null) {
        action.run();
        ran++;
      }
    }
    return ran;
  }

  /** Nanoseconds until the next timer is due (0 if one is), or {@code max} if that is sooner. */
  public synchronized long untilNext(long max) {
    // Nearly all timers are cancelled; waking up for each would cost more than running the few.
    while (!queue.isEmpty() && queue.peek().cancelled) {
      queue.poll();
    }
    Timer first = queue.peek();
    return first == null ? max : Math.min(max, Math.max(0, first.dueNanos - clock.nanos()));
  }

  private synchronized Timer nextDue() {
    while (!queue.isEmpty()) {
      Timer first = queue.peek();
      if (first.cancelled) {
        queue.poll();
      } else if (first.dueNanos - clock.nanos() <= 0) {
        return queue.poll();
      } else {
        return null;
      }
    }
    return null;
  }

  /** One pending action. */
  public static final class Timer implements Comparable<Timer> {
    private final long dueNanos;
    private volatile Runnable action;
    private volatile boolean cancelled;

    private Timer(long dueNanos, Runnable action) {
      this.dueNanos = dueNanos;
      this.action = action;
    }

    /**
     * Drops the action if it has not run yet. The timer leaves the queue when its time comes; what
     * the action holds, a request's body for one, must not wait for that.
     */
    public void cancel() {
      cancelled = true;
      action = null;
    }

    @Override
    public int compareTo(Timer other) {
      return Long.compare(dueNanos - other.dueNanos, 0);
    }

    @Override
    public boolean equals(Object other) {
      return this == other;
    }

    @Override
    public int hashCode() {
      return System.identityHashCode(this);
    }
  }
}
