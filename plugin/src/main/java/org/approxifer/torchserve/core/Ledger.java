package org.approxifer.torchserve.core;

import java.util.ArrayDeque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Predicate;
import org.approxifer.torchserve.core.policy.Distrust;
import org.approxifer.torchserve.core.policy.Trust;

/** What each worker did: the basis on which the router trusts it with work. */
public final class Ledger {
  private static final int SLOW_STREAK = 2;
  private static final int GARBLED_STREAK = 2;
  private static final long DEAD_NANOS = 10_000_000_000L;

  private final Map<String, Entry> workers = new TreeMap<>();
  private int changes;

  public Entry of(String worker) {
    return workers.computeIfAbsent(worker, id -> new Entry());
  }

  public boolean has(String worker) {
    return workers.containsKey(worker);
  }

  public int size() {
    return workers.size();
  }

  /** Ids of all workers there are. */
  Set<String> workers() {
    return workers.keySet();
  }

  /** True if a worker may have client work that is not among those that are ruled out. */
  public boolean another(Predicate<String> ruledOut) {
    for (Map.Entry<String, Entry> worker : workers.entrySet()) {
      if (!worker.getValue().quarantined && !ruledOut.test(worker.getKey())) {
        return true;
      }
    }
    return false;
  }

  /** The same, but of workers that are at work: not dead since their last job, nor stuck in it. */
  public boolean anotherPresent(Predicate<String> ruledOut) {
    return another(worker -> !workers.get(worker).present() || ruledOut.test(worker));
  }

  /** How many workers may have client work and are at work. */
  public int present() {
    return (int)
        workers.values().stream().filter(entry -> !entry.quarantined && entry.present()).count();
  }

  /** True if one more worker may be kept from clients: half of them at most. */
  public boolean mayQuarantine() {
    return 2 * (quarantined().size() + 1) <= workers.size();
  }

  /** Who is kept from clients. */
  public Set<String> quarantined() {
    Set<String> quarantined = new TreeSet<>(workers.keySet());
    quarantined.removeIf(worker -> !workers.get(worker).quarantined);
    return quarantined;
  }

  /** Keeps a worker from clients, or no longer. */
  public void quarantine(String worker, boolean quarantined) {
    of(worker).quarantined = quarantined;
    changes++;
  }

  /** How often it has changed who is kept from clients, or who there is. */
  int changes() {
    return changes;
  }

  /** Forgets workers that were scaled away. */
  void keep(Set<String> live) {
    if (!live.equals(workers.keySet())) {
      workers.forEach((worker, entry) -> entry.gone = !live.contains(worker));
      workers.keySet().retainAll(live);
      live.forEach(this::of);
      changes++;
    }
  }

  void addTo(List<Metric> metrics, Holders holders, Trust trust) {
    workers.forEach(
        (id, entry) -> {
          Metrics own = new Metrics(metrics, "approxifer_worker_", id);
          own.add("erasures_total", "Answers of a worker that could not be used.", entry.erasures);
          own.add("late_total", "Late jobs.", entry.late);
          own.add("deaths_total", "Deaths seen.", entry.deaths);
          own.add("confirmed_wrong_total", "Answers shown to be wrong.", entry.confirmedWrong);
          own.add(
              "suspicions_total",
              "Answers of a worker that did not fit to others; no proof.",
              entry.suspicions);
          own.add(
              "quarantined", "1 while a worker gets no client work.", entry.quarantined ? 1 : 0);
          own.add(
              "ejected",
              "1 while a worker gets only shadows, since it is to blame for failed requests.",
              trust.state(id) == Distrust.EJECTED ? 1 : 0);
          own.add(
              "trusted",
              "0 while a worker has to show that it is well.",
              trust.trusted(id) ? 1 : 0);
          own.add(
              "own_weights",
              "Weights other than the model's that a worker is to hold, such as a parity's.",
              holders.roles(id).size());
        });
  }

  /** Adds a worker's own metrics to a list. */
  private record Metrics(List<Metric> all, String prefix, String worker) {
    void add(String name, String help, double value) {
      all.add(Metric.of(prefix + name, help, "worker", worker, value));
    }
  }

  Map<String, Object> report(long now, Holders holders, Trust trust) {
    Map<String, Object> report = new LinkedHashMap<>();
    workers.forEach(
        (id, entry) -> {
          Map<String, Object> own = entry.report(now, trust.state(id));
          if (!holders.none()) {
            own.put("weights", holders.roles(id));
          }
          report.put(id, own);
        });
    return report;
  }

  /** One worker's account. */
  public static final class Entry {
    /** Answers that did not fit to others; says nothing against it alone. */
    public long suspicions;

    private boolean quarantined;

    /** The worker was scaled away. */
    public boolean gone;

    public long probes;

    /** A probe is on its way. */
    public boolean probing;

    /** Monotonic time in ns. */
    public long lastProbe;

    /** How often it was quarantined. */
    public long stays;

    /** Someone asked for its quarantine. */
    public boolean byHand;

    /** In this stay. */
    public int restarts;

    /** In a row, in this stay. */
    public int cleanProbes;

    private long handed;
    private long answered;
    private long late;
    private long deaths;
    private long erasures;
    private int unanswered;
    private double meanMs;
    private long confirmedWrong;
    private boolean keptOut;
    private final ArrayDeque<Boolean> confirmed = new ArrayDeque<>();
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
    public void erased(long now) {
      trouble(now);
      erasures++;
      erasureStreak++;
    }

    /** An answer that could. */
    void usable() {
      erasureStreak = 0;
    }

    /** Notes an answer that was confirmed right or wrong, and forgets all but the last n. */
    public void confirmed(boolean right, int n) {
      confirmedWrong += right ? 0 : 1;
      confirmed.addLast(right);
      while (confirmed.size() > n) {
        confirmed.removeFirst();
      }
    }

    public int recentlyWrong() {
      return (int) confirmed.stream().filter(right -> !right).count();
    }

    public boolean quarantined() {
      return quarantined;
    }

    /** It stays in quarantine until someone readmits it. */
    public void keepOut() {
      keptOut = true;
    }

    public boolean keptOut() {
      return keptOut;
    }

    /** It begins anew. */
    public void readmitted() {
      byHand = false;
      keptOut = false;
      cleanProbes = 0;
      confirmed.clear();
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

    Map<String, Object> report(long now, Distrust distrust) {
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
      report.put("confirmed_wrong", confirmedWrong);
      report.put("state", state(now, distrust));
      return report;
    }

    private String state(long now, Distrust distrust) {
      if (quarantined) {
        return keptOut ? "kept out" : "quarantined";
      } else if (garbled()) {
        return "garbled";
      } else if (distrust != null) {
        return distrust.word();
      }
      return recentlyDead(now) ? "restarted" : "ok";
    }
  }
}
