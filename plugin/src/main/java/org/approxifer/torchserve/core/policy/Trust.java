package org.approxifer.torchserve.core.policy;

import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;

/**
 * Which workers get jobs of their own. Not trusted is who is slow, unproven, suspected or ejected;
 * such a worker is shown <em>shadows</em>, copies of requests that a trusted worker has just been
 * handed, until it has shown that it is well again.
 *
 * <pre>
 *  slow       its last jobs took twice as long as those of the others
 *  unproven   no good answer since its process began, while half of those up are proven
 *  suspected  failed a job, not answered well since
 *  ejected    to blame too often; back after two good shadows in a row
 * </pre>
 */
public final class Trust {
  private static final int LAST = 5;
  private static final int MIN_LAST = 3;
  private static final int LAST_OF_ALL = 64;
  private static final double SLOW = 2;

  /** Where more are slow, as when the pair that is slow changes, a rank says more than a bound. */
  private static final double MAX_SLOW = .25;

  private static final long FIRST_GAP = 1_000_000_000L;
  private static final long MAX_GAP = 8_000_000_000L;
  private static final int GOOD_SHADOWS = 2;

  /** A job of its own is worth the risk if it saves so much of what the worker is slower by. */
  private static final double WORTH = .25;

  /** What a first call costs while none has been seen, in medians. */
  private static final double FIRST_CALL = 10;

  private static final double UNKNOWN = -1;

  private final Map<String, Standing> workers = new HashMap<>();

  /** How long the last jobs of all took, over the medians of their classes. */
  private final double[] all = new double[LAST_OF_ALL];

  private long answers;
  private double usual;
  private int up;
  private int proven;
  private int looksSlow;
  private double firstCall = FIRST_CALL;

  /** What {@link #counted} found, or {@link #UNKNOWN}: it is asked at each admission. */
  private double counted = UNKNOWN;

  /** One worker's. */
  private static final class Standing {
    private final double[] last = new double[LAST];
    private int count;
    private double median;
    private boolean looksSlow;
    private boolean up;
    private boolean first = true;
    private boolean proven;
    private boolean suspected;
    private boolean ejected;
    private boolean lastLate;
    private boolean shadowing;
    private long nextShadow;
    private boolean waitsForShadow;
    private long gap = FIRST_GAP;
    private int goodShadows;
  }

  private Standing of(String worker) {
    Standing one = workers.get(worker);
    if (one == null) {
      one = new Standing();
      workers.put(worker, one);
      counted = UNKNOWN;
    }
    return one;
  }

  // ------------------------------------------------------------- what happens

  /** A worker asks for work. */
  public void asked(String worker) {
    Standing one = of(worker);
    if (!one.up) {
      one.up = true;
      up++;
      proven += one.proven ? 1 : 0;
      counted = UNKNOWN;
    }
  }

  /** Its process has ended. */
  public void left(String worker) {
    Standing one = workers.get(worker);
    if (one != null) {
      out(one);
      one.proven = false;
      one.first = true;
      one.suspected = false;
      one.shadowing = false;
      one.waitsForShadow = false;
      one.gap = FIRST_GAP;
    }
  }

  private void out(Standing one) {
    up -= one.up ? 1 : 0;
    proven -= one.up && one.proven ? 1 : 0;
    one.up = false;
    counted = UNKNOWN;
  }

  /** Forgets workers that were scaled away. */
  public void keep(Set<String> live) {
    if (!live.containsAll(workers.keySet())) {
      workers.forEach(
          (id, one) -> {
            if (!live.contains(id)) {
              out(one);
              looksSlow -= one.looksSlow ? 1 : 0;
            }
          });
      workers.keySet().retainAll(live);
      counted = UNKNOWN;
    }
  }

  /** True if a worker's next answer is its process's first, which may be slow. */
  public boolean first(String worker) {
    return of(worker).first;
  }

  /**
   * A worker did a batch well.
   *
   * @param relative how long it took over its class's median; 0 where that is not known
   */
  public void answered(String worker, double relative, boolean late) {
    Standing one = of(worker);
    if (!one.proven) {
      one.proven = true;
      proven += one.up ? 1 : 0;
      counted = UNKNOWN;
    }
    suspect(one, false);
    one.lastLate = late;
    if (one.first) {
      one.first = false;
      firstCall = relative > 0 ? Math.max(1, relative) : firstCall;
    } else if (relative > 0) {
      one.last[one.count++ % LAST] = relative;
      one.median = median(one.last, Math.min(one.count, LAST));
      all[(int) (answers++ % LAST_OF_ALL)] = relative;
      if (answers % 8 == 0 || answers < LAST_OF_ALL) {
        usual = median(all, (int) Math.min(answers, LAST_OF_ALL));
        workers.values().forEach(this::look);
      } else {
        look(one);
      }
      counted = looksSlow > 0 ? UNKNOWN : counted; // a slow one's share has changed
    }
  }

  private void look(Standing one) {
    boolean slow = one.count >= MIN_LAST && one.median > SLOW * usual;
    if (slow != one.looksSlow) {
      looksSlow += slow ? 1 : -1;
      one.looksSlow = slow;
      counted = UNKNOWN;
    }
  }

  private static double median(double[] some, int count) {
    double[] sorted = Arrays.copyOf(some, count);
    Arrays.sort(sorted);
    return sorted[count / 2];
  }

  /** A worker failed a job. */
  public void failed(String worker) {
    suspect(of(worker), true);
  }

  /** It was the request that failed, not the worker. */
  public void cleared(String worker) {
    suspect(of(worker), false);
  }

  private void suspect(Standing one, boolean suspected) {
    if (one.suspected != suspected) {
      one.suspected = suspected;
      counted = UNKNOWN;
    }
  }

  /** A worker is to blame too often; false if it is the last one, which has to go on. */
  public boolean eject(String worker) {
    long others =
        workers.entrySet().stream()
            .filter(other -> !other.getKey().equals(worker))
            .filter(other -> other.getValue().up && !other.getValue().ejected)
            .count();
    Standing one = of(worker);
    if (others == 0 || one.ejected) {
      return false;
    }
    one.ejected = true;
    counted = UNKNOWN;
    one.goodShadows = 0;
    return true;
  }

  // ------------------------------------------------------------------ shadows

  /** True if a worker is to be shown a shadow now. */
  public boolean shadowDue(String worker, long now) {
    Standing one = of(worker);
    return !one.shadowing && (!one.waitsForShadow || now - one.nextShadow >= 0);
  }

  /** It was handed one, or a job that stands for one. */
  public void shadowed(String worker) {
    of(worker).shadowing = true;
  }

  /** The shadow has ended; true if the worker is readmitted with that. */
  public boolean shadowEnded(String worker, boolean good, long now) {
    Standing one = of(worker);
    one.shadowing = false;
    one.waitsForShadow = !good;
    one.nextShadow = now + one.gap;
    one.gap = good ? FIRST_GAP : Math.min(MAX_GAP, 2 * one.gap);
    one.goodShadows = good ? one.goodShadows + 1 : 0;
    if (one.ejected && one.goodShadows >= GOOD_SHADOWS) {
      one.ejected = false;
      counted = UNKNOWN;
      return true;
    }
    return false;
  }

  /** True if a time over its class's median is no worse than usual. */
  public boolean usual(double relative) {
    return relative <= SLOW * usual || answers == 0;
  }

  // ------------------------------------------------------------------ verdicts

  /** True if a worker gets jobs like any other. */
  public boolean trusted(String worker) {
    Standing one = workers.get(worker);
    return one == null || state(one) == null;
  }

  /** True if a worker's process is there. */
  public boolean up(String worker) {
    Standing one = workers.get(worker);
    return one != null && one.up;
  }

  /** True if it is to be asked after the others: its last answer was late. */
  public boolean lastLate(String worker) {
    Standing one = workers.get(worker);
    return one != null && one.lastLate;
  }

  /** Why a worker is not trusted; null where it is. */
  public Distrust state(String worker) {
    Standing one = workers.get(worker);
    return one == null ? null : state(one);
  }

  private Distrust state(Standing one) {
    if (one.ejected) {
      return Distrust.EJECTED;
    } else if (one.suspected) {
      return Distrust.SUSPECTED;
    } else if (!one.proven && 2 * proven >= up && proven > 0) {
      return Distrust.UNPROVEN;
    }
    return slow(one) ? Distrust.SLOW : null;
  }

  /** True if a worker is slow; then nothing is learnt from it. */
  public boolean slow(String worker) {
    Standing one = workers.get(worker);
    return one != null && slow(one);
  }

  private boolean slow(Standing one) {
    return one.looksSlow && looksSlow <= Math.max(1, MAX_SLOW * workers.size());
  }

  /** True if an untrusted worker is to have a job of its own, since the others have too much. */
  public boolean ownJob(String worker, long predicted, long median) {
    Standing one = of(worker);
    return predicted > 0 && !one.ejected && predicted >= WORTH * slowerBy(one) * median;
  }

  /** How long it would take a job of its own. */
  public long expected(String worker, long median) {
    return (long) ((1 + slowerBy(of(worker))) * median);
  }

  private double slowerBy(Standing one) {
    if (slow(one)) {
      return one.median / usual - 1;
    }
    return one.proven ? 1 : firstCall;
  }

  /** How many workers there are to work off what waits; a slow one counts as its share. */
  public double counted() {
    if (counted == UNKNOWN) {
      counted = count();
    }
    return counted;
  }

  private double count() {
    double counted = 0;
    for (Standing one : workers.values()) {
      Distrust state = state(one);
      if (one.up && state == null) {
        counted++;
      } else if (one.up && state == Distrust.SLOW) {
        counted += usual / one.median;
      }
    }
    return counted;
  }

  /** How many workers' processes are there. */
  public int up() {
    return up;
  }
}
