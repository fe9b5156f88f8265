package org.approxifer.torchserve.core;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/** What each worker did: the basis on which the router trusts it with work. */
final class Ledger {
  private static final int SLOW_STREAK = 2;
  private static final int GARBLED_STREAK = 2;
  private static final long DEAD_NANOS = 10_000_000_000L;
  private static final long RETRY_NANOS = 2_000_000_000L;

  private final Map<String, Entry> workers = new TreeMap<>();

  Entry of(String worker) {
    return workers.computeIfAbsent(worker, id -> new Entry());
  }

  /** Forgets workers that were scaled away. */
  void keep(Set<String> live) {
    workers.keySet().retainAll(live);
    live.forEach(this::of);
  }

  /**
   * True if some workers are dead, persistently slow or unusable, but not most: where all are slow,
   * sending work twice makes them slower.
   */
  boolean someInTrouble(long now) {
    int troubled = 0;
    for (Entry entry : workers.values()) {
      troubled += entry.slow() || entry.garbled() || entry.recentlyDead(now) ? 1 : 0;
    }
    return troubled > 0 && 2 * troubled <= workers.size();
  }

  void addTo(List<Metric> metrics) {
    workers.forEach(
        (id, entry) -> {
          metrics.add(
              Metric.of(
                  "approxifer_worker_erasures_total",
                  "Answers of a worker that could not be used.",
                  "worker",
                  id,
                  entry.erasures));
          metrics.add(
              Metric.of("approxifer_worker_late_total", "Late jobs.", "worker", id, entry.late));
          metrics.add(
              Metric.of(
                  "approxifer_worker_deaths_total", "Deaths seen.", "worker", id, entry.deaths));
        });
  }

  Map<String, Object> report(long now) {
    Map<String, Object> report = new LinkedHashMap<>();
    workers.forEach((id, entry) -> report.put(id, entry.report(now)));
    return report;
  }

  /** One worker's account. */
  static final class Entry {
    long handed;
    long answered;
    long late;
    long deaths;
    long erasures;
    int unanswered;
    double meanMs;
    private int lateStreak;
    private int erasureStreak;
    private long lastDeath;
    private long lastHanded;

    void handed(long now) {
      handed++;
      unanswered++;
      lastHanded = now;
    }

    void answered(long serviceNanos, boolean inTime) {
      unanswered--;
      answered++;
      double ms = serviceNanos / 1e6;
      meanMs = answered == 1 ? ms : meanMs + .1 * (ms - meanMs);
      if (inTime) {
        lateStreak = 0;
      }
    }

    /** An answer that could not be used. */
    void erased() {
      erasures++;
      erasureStreak++;
    }

    /** An answer that could. */
    void usable() {
      erasureStreak = 0;
    }

    void late() {
      late++;
      lateStreak++;
    }

    /** A death answers all that the worker held; the jobs of one batch are one death. */
    void died(long now) {
      unanswered--;
      if (lastDeath == 0 || now - lastDeath > 500_000_000L) {
        deaths++;
      }
      lastDeath = now;
      lateStreak = 0;
      erasureStreak = 0;
    }

    void returned() {
      unanswered--;
    }

    boolean slow() {
      return lateStreak >= SLOW_STREAK;
    }

    boolean garbled() {
      return erasureStreak >= GARBLED_STREAK;
    }

    boolean recentlyDead(long now) {
      return lastDeath != 0 && now - lastDeath < DEAD_NANOS;
    }

    /**
     * A slow or garbled worker is asked after all others, but now and then, so that it can recover.
     */
    boolean lastChoice(long now) {
      return (slow() || garbled()) && now - lastHanded < RETRY_NANOS;
    }

    Map<String, Object> report(long now) {
      Map<String, Object> report = new LinkedHashMap<>();
      report.put("handed", handed);
      report.put("answered", answered);
      report.put("unanswered", unanswered);
      report.put("late", late);
      report.put("deaths", deaths);
      report.put("erasures", erasures);
      report.put("mean_ms", Math.round(meanMs * 100) / 100.0);
      report.put(
          "state",
          recentlyDead(now) ? "restarted" : garbled() ? "garbled" : slow() ? "slow" : "ok");
      return report;
    }
  }
}
