package org.approxifer.torchserve.core;

import java.util.function.Consumer;

/** Time as the router's parts see it: what they put off runs under the router's lock. */
public final class Schedule {
  private final Clock clock;
  private final Timers timers;
  private final Consumer<Runnable> locked;

  /**
   * @param locked runs an action under the router's lock
   */
  Schedule(Clock clock, Timers timers, Consumer<Runnable> locked) {
    this.clock = clock;
    this.timers = timers;
    this.locked = locked;
  }

  /** Monotonic time in nanoseconds. */
  public long now() {
    return clock.nanos();
  }

  /** Runs an action under the lock, so many nanoseconds from now, unless it is cancelled. */
  public Timers.Timer after(long nanos, Runnable action) {
    return timers.after(nanos, () -> locked.accept(action));
  }
}
