package org.approxifer.torchserve.core.policy;

/**
 * How long a client that names no deadline of its own waits: for ever (as in plain TorchServe), a
 * number of milliseconds, or what is many times the model's own time ({@code auto}).
 */
public final class Deadline {
  /** For ever, in ns. */
  public static final long NONE = Long.MAX_VALUE;

  /** A deadline for a model of a few ms is not to be a hiccup of the machine. */
  private static final long MIN_AUTO_NANOS = 2_000_000_000L;

  private static final int MEDIANS = 10;

  private final String given;
  private final long fixed;

  /**
   * @param given "none", "auto" or a number of ms
   */
  public Deadline(String given) {
    this.given = given;
    fixed = wanted(given) && number(given) ? (long) (Double.parseDouble(given) * 1e6) : 0;
  }

  /** True if it is one of the three. */
  public static boolean wanted(String given) {
    return given.equals("none") || given.equals("auto") || number(given);
  }

  private static boolean number(String given) {
    try {
      return Double.parseDouble(given) > 0;
    } catch (NumberFormatException e) {
      return false;
    }
  }

  /** For a request that comes now; {@link #NONE} too while there is nothing to make auto of. */
  public long nanos(ServiceTimes times) {
    if (given.equals("none") || given.equals("auto") && !times.known()) {
      return NONE;
    }
    return given.equals("auto") ? auto(times) : fixed;
  }

  /** The same, but a time in any case: after it, what nobody does by itself is done. */
  public long patience(ServiceTimes times) {
    return fixed > 0 ? fixed : auto(times);
  }

  private static long auto(ServiceTimes times) {
    return Math.max(MIN_AUTO_NANOS, MEDIANS * times.median());
  }
}
