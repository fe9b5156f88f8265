package org.approxifer.torchserve.core.policy;

import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/**
 * How long batches take, learnt by class: what their jobs compute, times the power of two of their
 * bytes together. The bytes tell the size of the batch and that of its inputs at once.
 *
 * <p>A class that was seen too rarely is told by the next larger one, at most two steps away: at
 * worst its jobs are found late a little late. Else by a smaller one, at twice the time per step.
 */
public final class ServiceTimes {
  /** From so many answers on a class counts. */
  public static final int KNOWN = 20;

  /** Returned where nothing is known. */
  public static final long UNKNOWN = -1;

  /** A window of 64 would be at the mercy of its own outliers where 2 % of the runs are slow. */
  private static final int WINDOW = 256;

  /** What is asked of all classes together follows a shift of the model's speed sooner. */
  private static final int RECENT = 64;

  private static final int LARGER_STEPS = 2;

  /** Classes of one family; bytes of an array have fewer bits. */
  private static final int SIZES = 64;

  /** Narrow service times: no useless copies. At 1.1 every hundredth job would get one. */
  private static final double MIN_OF_MEDIAN = 1.5;

  /** Where more than one run in twenty is slow, the 95th percentile is one of the slow ones. */
  private static final double MAX_OF_MEDIAN = 3;

  private final Map<Integer, Window> windows = new HashMap<>();
  private final Window recent = new Window(RECENT);
  private final int recentFamily;

  /**
   * @param recentFamily the family that {@link #median()} and {@link #mean()} speak of
   */
  public ServiceTimes(int recentFamily) {
    this.recentFamily = recentFamily;
  }

  /** The class of a batch. */
  public static int kind(int family, long bytes) {
    return family * SIZES + SIZES - 1 - Long.numberOfLeadingZeros(Math.max(1, bytes));
  }

  /** A batch of a worker that is not slow now, and has run before, took this long. */
  public void taught(int kind, long nanos) {
    windows.computeIfAbsent(kind, made -> new Window(WINDOW)).add(nanos);
    if (kind / SIZES == recentFamily) {
      recent.add(nanos);
    }
  }

  /** True once the recent family is known at all. */
  public boolean known() {
    return recent.count >= KNOWN;
  }

  /** Median of the recent family's last times, of whatever class; 0 before the first. */
  public long median() {
    return recent.quantile(.5);
  }

  /** Mean of the same. */
  public long mean() {
    return recent.mean();
  }

  /** Median time of a class; {@link #UNKNOWN} if neither it nor its neighbours are known. */
  public long median(int kind) {
    return (long) learnt(kind, window -> window.quantile(.5));
  }

  /** The median of a class as soon as there is one at all: to compare workers, not to judge. */
  public long early(int kind) {
    long median = median(kind);
    Window own = windows.get(kind);
    return median == UNKNOWN && own != null ? own.quantile(.5) : median;
  }

  /** After this time a job of the class is late; {@link #UNKNOWN} likewise. */
  public long lateAfter(int kind) {
    return (long) learnt(kind, ServiceTimes::lateAfter);
  }

  private static double lateAfter(Window window) {
    double median = window.quantile(.5);
    double usual = Math.min(window.quantile(.95), MAX_OF_MEDIAN * median);
    return Math.max(MIN_OF_MEDIAN * median, usual);
  }

  /** A quantile of all that one family's windows hold; 0 before the first. */
  public long quantile(int family, double q) {
    long[] all =
        windows.entrySet().stream()
            .filter(entry -> entry.getKey() / SIZES == family)
            .flatMapToLong(entry -> Arrays.stream(entry.getValue().held()))
            .sorted()
            .toArray();
    return all.length == 0 ? 0 : all[Math.min(all.length - 1, (int) (q * all.length))];
  }

  private double learnt(int kind, java.util.function.ToDoubleFunction<Window> figure) {
    int size = kind % SIZES;
    for (int step = 0; step <= LARGER_STEPS && size + step < SIZES; step++) {
      Window window = windows.get(kind + step);
      if (window != null && window.count >= KNOWN) {
        return figure.applyAsDouble(window);
      }
    }
    for (int step = 1; step <= size; step++) {
      Window window = windows.get(kind - step);
      if (window != null && window.count >= KNOWN) {
        return figure.applyAsDouble(window) * Math.pow(2, step);
      }
    }
    return UNKNOWN;
  }

  /** The last so many times; sorted again only when a sixteenth of them is new. */
  private static final class Window {
    private final long[] times;
    private long count;
    private long sum;
    private long[] sorted = {};
    private long sortedAt;

    Window(int size) {
      times = new long[size];
    }

    void add(long nanos) {
      int slot = (int) (count++ % times.length);
      sum += nanos - times[slot];
      times[slot] = nanos;
    }

    long[] held() {
      return Arrays.copyOf(times, (int) Math.min(count, times.length));
    }

    long mean() {
      return count == 0 ? 0 : sum / Math.min(count, times.length);
    }

    long quantile(double q) {
      if (count == 0) {
        return 0;
      }
      if (sorted.length == 0 || count - sortedAt >= Math.max(1, sorted.length / 16)) {
        sorted = held();
        Arrays.sort(sorted);
        sortedAt = count;
      }
      return sorted[Math.min(sorted.length - 1, (int) (q * sorted.length))];
    }
  }
}
