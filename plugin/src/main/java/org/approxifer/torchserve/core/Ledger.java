package org.approxifer.torchserve.core;

import java.util.ArrayDeque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Predicate;

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

  boolean has(String worker) {
    return workers.containsKey(worker);
  }

  int size() {
    return workers.size();
  }

  /** Ids of all workers there are. */
  Set<String> workers() {
    return workers.keySet();
  }

  /** True if a worker may have client work that is not among those that are ruled out. */
  boolean another(Predicate<String> ruledOut) {
    for (Map.Entry<String, Entry> worker : workers.entrySet()) {
      if (!worker.getValue().quarantined && !ruledOut.test(worker.getKey())) {
        return true;
      }
    }
    return false;
  }

  /** The same, but of workers that are at work: not dead since their last job, nor stuck in it. */
  boolean anotherPresent(Predicate<String> ruledOut) {
    return another(worker -> !workers.get(worker).present() || ruledOut.test(worker));
  }

  /** How many workers may have client work and are at work. */
  int present() {
    return (int)
        workers.values().stream().filter(entry -> !entry.quarantined && entry.present()).count();
  }

  int quarantined() {
    return (int) workers.values().stream().filter(entry -> entry.quarantined).count();
  }

  /** Forgets workers that were scaled away. */
  void keep(Set<String> live) {
    workers.forEach((worker, entry) -> entry.gone = !live.contains(worker));
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

  void addTo(List<Metric> metrics, Holders holders) {
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
          metrics.add(
              Metric.of(
                  "approxifer_worker_confirmed_wrong_total",
                  "Answers shown to be wrong.",
                  "worker",
                  id,
                  entry.confirmations));
          metrics.add(
              Metric.of(
                  "approxifer_worker_suspicions_total",
                  "Answers of a worker that did not fit to others; no proof.",
                  "worker",
                  id,
                  entry.suspicions));
          metrics.add(
              Metric.of(
                  "approxifer_worker_quarantined",
                  "1 while a worker gets no client work.",
                  "worker",
                  id,
                  entry.quarantined ? 1 : 0));
          metrics.add(
              Metric.of(
                  "approxifer_worker_own_weights",
                  "Weights other than the model's that a worker is to hold, such as a parity's.",
                  "worker",
                  id,
                  holders.roles(id).size()));
        });
  }

  Map<String, Object> report(long now, Holders holders) {
    Map<String, Object> report = new LinkedHashMap<>();
    workers.forEach(
        (id, entry) -> {
          Map<String, Object> own = entry.report(now);
          if (!holders.none()) {
            own.put("weights", holders.roles(id));
          }
          report.put(id, own);
        });
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

    /** Took part in a disagreement; says nothing against it alone. */
    long suspicions;

    /** Answers that others, or a probe, showed to be wrong. */
    long confirmations;

    boolean quarantined;

    /** How often it was quarantined. */
    long stays;

    boolean byHand;
    boolean keptOut;
    int restarts;
    int cleanProbes;

    boolean probing;
    long probes;
    long lastProbe;
    boolean gone;
    private final ArrayDeque<Boolean> judgements = new ArrayDeque<>();
    private int lateStreak;
    private int erasureStreak;
    private long lastDeath;
    private long lastHanded;
    private long troubleBegan;
    private long lastTrouble;

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
    void erased(long now) {
      trouble(now);
      erasures++;
      erasureStreak++;
    }

    /** An answer that could. */
    void usable() {
      erasureStreak = 0;
    }

    /** Notes a confirmed judgement and forgets all but the last n. */
    void judged(boolean right, int n) {
      confirmations += right ? 0 : 1;
      judgements.addLast(right);
      while (judgements.size() > n) {
        judgements.removeFirst();
      }
    }

    int recentlyWrong() {
      return (int) judgements.stream().filter(right -> !right).count();
    }

    void readmit() {
      quarantined = false;
      byHand = false;
      keptOut = false;
      cleanProbes = 0;
      judgements.clear();
    }

    void late(long now) {
      trouble(now);
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

    boolean present() {
      return lastHanded >= lastDeath && !stuck();
    }

    private boolean stuck() {
      return lateStreak > 0 && unanswered > 0;
    }

    /** Slow, stuck in a job, or its answers cannot be used. */
    boolean inTrouble() {
      return slow() || garbled() || stuck();
    }

    /** In trouble, and new signs of it came so long after the first, or a job is stuck so long. */
    boolean staysInTrouble(long now, long nanos) {
      return inTrouble()
          && (lastTrouble - troubleBegan > nanos || stuck() && now - lastHanded > nanos);
    }

    private void trouble(long now) {
      if (lateStreak == 0 && erasureStreak == 0) {
        troubleBegan = now;
      }
      lastTrouble = now;
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
      report.put("probes", probes);
      report.put("suspicions", suspicions);
      report.put("confirmed_wrong", confirmations);
      report.put("state", state(now));
      return report;
    }

    private String state(long now) {
      if (quarantined) {
        return keptOut ? "kept out" : "quarantined";
      } else if (recentlyDead(now)) {
        return "restarted";
      } else if (garbled()) {
        return "garbled";
      }
      return slow() ? "slow" : "ok";
    }
  }
}
