package org.approxifer.torchserve.core.policy;

/**
 * Who is let in while all are busy: whoever can be expected to be answered in time. Letting in more
 * ends in answers that come too late for everybody.
 */
public final class Overload {
  /** Half of its deadline is for what the prediction does not see. */
  private static final int SHARE_OF_DEADLINE = 2;

  /**
   * In lasting overload so many wait at most, or a batch for each worker if that is more: 16 would
   * refuse two to five times as often at .95 of the capacity, 64 double the wait.
   */
  private static final int MIN_PLACES = 32;

  private static final double MAX_CORRECTION = 4;
  private static final double POWER = .02;

  private double correction = 1;
  private boolean waits;
  private long since;

  /** How long who comes now is going to wait. */
  public long predicted(int waiting, double fill, long meanNanos, double workers) {
    return (long) (waiting / fill * meanNanos / Math.max(1, workers) * correction);
  }

  /** Somebody was handed out after this long, and had been predicted that. */
  public void waited(long actual, long predicted) {
    if (predicted > 0 && actual > 0) {
      double corrected = correction * Math.pow((double) actual / predicted, POWER);
      correction = Math.max(1, Math.min(MAX_CORRECTION, corrected));
    }
  }

  /** So many wait now. */
  public void observe(int waiting, long now) {
    if (waiting > 0 && !waits) {
      since = now;
    }
    waits = waiting > 0;
  }

  /**
   * True if a client is let in that found nobody idle and others waiting.
   *
   * @param predicted wait, in ns
   * @param median service time, in ns
   * @param places workers times jobs in a batch
   */
  public boolean admits(
      long predicted, long median, long deadline, int waiting, int places, long now) {
    boolean inTime = predicted + median <= deadline / SHARE_OF_DEADLINE;
    boolean lasting = waits && now - since >= deadline;
    return inTime && (!lasting || waiting < Math.max(MIN_PLACES, places));
  }

  /** A wait as Retry-After says it: seconds, rounded up, 1 at least. */
  public static long seconds(long nanos) {
    return Math.max(1, (nanos + 999_999_999) / 1_000_000_000);
  }

  /** What predictions are multiplied by, since they were too short. */
  public double correction() {
    return correction;
  }
}
