package org.approxifer.torchserve.core;

/** Time, so that tests can own it. */
public interface Clock {
  /** Monotonic time in nanoseconds, for durations. */
  long nanos();

  /** Wall-clock time in milliseconds since the epoch, as client expiry is given. */
  long millis();

  /** The machine's own clocks. */
  Clock SYSTEM =
      new Clock() {
        @Override
        public long nanos() {
          return System.nanoTime();
        }

        @Override
        public long millis() {
          return System.currentTimeMillis();
        }
      };
}
