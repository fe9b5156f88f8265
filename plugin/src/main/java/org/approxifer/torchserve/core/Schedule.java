package org.approxifer.torchserve.core;

import java.util.function.Consumer;

/**
 * Time as the router's parts see it.
 *
 * @param locked runs what they put off under the router's lock
 */
public record Schedule(Clock clock, Timers timers, Consumer<Runnable> locked) {
  /** Monotonic time in nanoseconds. */
  public long now() {
    return clock.nanos();
  }

  /** Runs an action under the lock, so many nanoseconds from now, unless it is cancelled. */
  public Timers.Timer after(long nanos, Runnable action) {
    return timers.after(nanos, () -> locked.accept(action));
  }
}
