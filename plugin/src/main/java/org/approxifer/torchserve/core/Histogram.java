package org.approxifer.torchserve.core;

import java.util.List;

/** Counts of values at or below fixed bounds, as Prometheus wants them. Not thread-safe. */
public final class Histogram {
  /** Bounds for durations in seconds: 1 ms to 10 s. */
  static final double[] SECONDS = {.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10};

  private final double[] bounds;
  private final long[] counts;
  private double sum;

  Histogram(double... bounds) {
    this.bounds = bounds.clone();
    counts = new long[bounds.length + 1];
  }

  /** Bounds 1, 2, … n, for counts of queries. */
  static Histogram upTo(int n) {
    double[] bounds = new double[n];
    for (int i = 0; i < n; i++) {
      bounds[i] = i + 1;
    }
    return new Histogram(bounds);
  }

  void record(double value) {
    int bucket = 0;
    while (bucket < bounds.length && value > bounds[bucket]) {
      bucket++;
    }
    counts[bucket]++;
    sum += value;
  }

  void recordNanos(long nanos) {
    record(nanos / 1e9);
  }

  /** A copy: bounds (the last is infinite), cumulative counts, and the sum of all values. */
  Snapshot snapshot() {
    Double[] upper = new Double[counts.length];
    Long[] cumulative = new Long[counts.length];
    long total = 0;
    for (int i = 0; i < counts.length; i++) {
      total += counts[i];
      upper[i] = i < bounds.length ? bounds[i] : Double.POSITIVE_INFINITY;
      cumulative[i] = total;
    }
    return new Snapshot(List.of(upper), List.of(cumulative), sum);
  }

  /** What a histogram held at one moment. */
  public record Snapshot(List<Double> bounds, List<Long> cumulative, double sum) {}
}
