package org.approxifer.torchserve.sim;

import org.approxifer.torchserve.core.Clock;

/** Virtual time in nanoseconds; it stands still while anything is computed. */
final class Time implements Clock {
  static final long SECOND = 1_000_000_000L;
  private static final long MILLI = 1_000_000L;

  /** Not 0: nothing may depend on when the machine was started. */
  static final long BEGIN = 10 * SECOND;

  private long now = BEGIN;

  void set(long nanos) {
    if (nanos < now) {
      throw new IllegalStateException("time goes back from " + now + " to " + nanos);
    }
    now = nanos;
  }

  @Override
  public long nanos() {
    return now;
  }

  @Override
  public long millis() {
    return now / MILLI;
  }

  static long ofSeconds(double seconds) {
    return Math.round(seconds * SECOND);
  }

  static long ofMillis(double millis) {
    return Math.round(millis * MILLI);
  }

  static double toMillis(long nanos) {
    return nanos / (double) MILLI;
  }
}
