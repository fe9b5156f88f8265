package org.approxifer.torchserve.core;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * When a job is late: a fixed time, or max(3 × median, 99th percentile) of recent service times
 * (hand-out to answer; queueing is not in it).
 *
 * <p>The percentile looks only at workers that are not slow, and the result is kept between 20 ms
 * and a quarter of the deadline, so that a slow worker cannot teach the router patience. Before
 * {@value #COLD} answers it is {@link #COLD_NANOS}.
 */
public final class Lateness {
  static final int COLD = 32;
  static final long COLD_NANOS = 200_000_000L;
  private static final long MIN_NANOS = 20_000_000L;
  private static final int WINDOW = 512;

  private final long fixed;
  private final long max;
  private final long[] samples = new long[WINDOW];
  private long count;
  private long cached = -1;
  private boolean someAnswered;
  private long newestHanded;
  private long newestService;

  Lateness(Plan.Policy policy) {
    fixed = policy.lateAfterNanos();
    max = Math.max(MIN_NANOS, policy.deadlineNanos() / 4);
  }

  void record(long serviceNanos) {
    samples[(int) (count++ % WINDOW)] = serviceNanos;
    if (count % 16 == 0) {
      cached = -1;
    }
  }

  /** Notes how long the answered job took that was handed out last. */
  void answered(long handedNanos, long serviceNanos) {
    if (!someAnswered || handedNanos - newestHanded > 0) {
      newestHanded = handedNanos;
      newestService = serviceNanos;
    }
    someAnswered = true;
  }

  /** True if a job that was handed out after this one needed no half of the time it has had. */
  boolean overtaken(long handedNanos, long now) {
    return someAnswered && newestHanded - handedNanos > 0 && 2 * newestService <= now - handedNanos;
  }

  public long nanos() {
    if (fixed >= 0) {
      return fixed;
    }
    if (count < COLD) {
      return Math.min(COLD_NANOS, max);
    }
    if (cached < 0) {
      cached = Math.min(max, Math.max(MIN_NANOS, Math.max(3 * quantile(.5), quantile(.99))));
    }
    return cached;
  }

  /** A quantile of the recent service times in nanoseconds; 0 before the first. */
  long quantile(double q) {
    int size = (int) Math.min(count, WINDOW);
    if (size == 0) {
      return 0;
    }
    long[] sorted = Arrays.copyOf(samples, size);
    Arrays.sort(sorted);
    return sorted[Math.min(size - 1, (int) (q * size))];
  }

  Map<String, Object> report() {
    Map<String, Object> report = new LinkedHashMap<>();
    report.put("late_after_ms", nanos() / 1e6);
    report.put("service_p50_ms", quantile(.5) / 1e6);
    report.put("service_p99_ms", quantile(.99) / 1e6);
    return report;
  }
}
