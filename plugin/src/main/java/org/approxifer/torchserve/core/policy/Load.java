package org.approxifer.torchserve.core.policy;

import java.util.Map;
import java.util.TreeMap;

/**
 * How much of the workers' capacity is used: the share of them that is busy, times what they get
 * done while busy over the most that any fill of a batch has shown. Workers that are always busy
 * with batches of one have room where a batch of eight takes no longer.
 */
public final class Load {
  /** Averaged over so many arrivals: the budget is not to follow each burst. */
  private static final double ARRIVALS = 512;

  private static final double BATCHES = 64;

  /** A fill counts from so many batches on. */
  private static final int KNOWN = 5;

  private final Map<Integer, Fill> fills = new TreeMap<>();
  private double load;
  private double jobs;
  private double nanos;
  private int largest = 1;
  private double rate = 1;

  private static final class Fill {
    private int count;
    private double mean;
  }

  /** A batch of so many jobs took this long. */
  public void ended(int size, long took) {
    Fill fill = fills.computeIfAbsent(size, made -> new Fill());
    fill.count++;
    fill.mean += (took - fill.mean) / Math.min(fill.count, BATCHES);
    jobs = jobs == 0 ? size : jobs + (size - jobs) / BATCHES;
    nanos = nanos == 0 ? took : nanos + (took - nanos) / BATCHES;
    largest = Math.max(largest, size);
    rate = rate();
  }

  /** A request has come while so many of the workers were busy. */
  public void arrived(int busy, int workers) {
    double now = workers == 0 ? 0 : (double) busy / workers * rate;
    load += (now - load) / ARRIVALS;
  }

  /** Jobs per busy second now, over the most that any fill has shown; 1 before anything ended. */
  private double rate() {
    double best = 0;
    for (Map.Entry<Integer, Fill> fill : fills.entrySet()) {
      if (fill.getValue().count >= KNOWN) {
        best = Math.max(best, fill.getKey() / fill.getValue().mean);
      }
    }
    return best == 0 ? 1 : Math.min(1, jobs / nanos / best);
  }

  /** 0 for idle to 1 for saturated. */
  public double load() {
    return load;
  }

  /** Jobs in a batch, as of late; 1 at least. */
  public double fill() {
    return Math.max(1, jobs);
  }

  /** Jobs in the largest batch there was. */
  public int largest() {
    return largest;
  }
}
