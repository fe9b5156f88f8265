package org.approxifer.torchserve.core;

import java.util.EnumMap;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/** What happened since the model was attached. Guarded by the router's lock. */
public final class Counters {
  /** What is counted; in lower case it is the key in GET /coded. */
  public enum Count {
    REQUESTS,
    CLIENT_GONE("clients_gone", "Clients that hung up before an answer."),
    LATE("late_jobs", "Jobs late by policy."),
    HEDGES("hedges", "Queries sent again because late."),
    HEDGES_DENIED(
        "hedges_denied",
        "Late jobs that were answered before a copy was sent: it was not worth its price."),
    RETRIES("retries", "Requests that a worker failed, tried once by another."),
    BLAMED("blamed", "Requests that one worker failed and another answered."),
    EJECTIONS("ejections", "Workers ejected: to blame too often."),
    REFUSED("refused", "Requests refused at once: they would not have been answered in time."),
    DROPPED("dropped", "Requests that waited, and could not be answered in time any more."),
    WORKER_DEATHS,
    ERASURES,
    RETURNED,
    UNRETURNED,
    DUPLICATE_CALLBACKS,
    GROUPS,
    DISAGREEMENTS("disagreements", "Answers of different workers to one query that differed."),
    /** Groups whose answers a worker has screened. */
    SCREENS,
    SCREENED("screened", "Answers that a screen found to fit."),
    /** They are computed again. */
    SUSPECTED("suspected", "Answers that a screen suspected."),
    UNSCREENED("unscreened", "Answers that no group could screen; other workers check them."),
    QUARANTINES;

    private final String metric;
    private final String help;

    Count() {
      this(null, null);
    }

    Count(String metric, String help) {
      this.metric = metric;
      this.help = help;
    }
  }

  private static final Set<Task.Kind> EXTRA =
      EnumSet.of(
          Task.Kind.HEDGE,
          Task.Kind.SHADOW,
          Task.Kind.PARITY,
          Task.Kind.SCREEN,
          Task.Kind.COMPARE,
          Task.Kind.PROBE);

  private final long[] counts = new long[Count.values().length];
  private final Tally<Outcome> outcomes = new Tally<>(Outcome.class, "outcome");
  private final Tally<Task.Kind> jobs = new Tally<>(Task.Kind.class, "kind");
  private final Histogram queueSeconds = new Histogram(Histogram.SECONDS);
  private final Histogram groupFill;

  Counters(int queries) {
    groupFill = Histogram.upTo(queries);
  }

  public void add(Count count) {
    counts[count.ordinal()]++;
  }

  void settled(Outcome outcome, long nanos) {
    outcomes.counts[outcome.ordinal()]++;
    outcomes.took(outcome, nanos);
  }

  void handed(Task.Kind kind) {
    jobs.counts[kind.ordinal()]++;
  }

  void served(Task.Kind kind, long nanos) {
    jobs.took(kind, nanos);
  }

  void queued(long nanos) {
    queueSeconds.recordNanos(nanos);
  }

  void closed(Group group) {
    groupFill.record(group.members.size());
  }

  /**
   * Hedges, shadows, parities, screens, comparisons and probes per request: what the policy added.
   */
  private double extraWorkRatio() {
    long requests = counts[Count.REQUESTS.ordinal()];
    double extra = EXTRA.stream().mapToLong(kind -> jobs.counts[kind.ordinal()]).sum();
    return requests == 0 ? 0 : extra / requests;
  }

  void addTo(List<Metric> metrics) {
    outcomes.addCounts(metrics, "approxifer_requests_total", "Requests by how they were answered.");
    jobs.addCounts(metrics, "approxifer_jobs_total", "Jobs handed to workers.");
    for (Count count : Count.values()) {
      if (count.metric != null) {
        String name = "approxifer_" + count.metric + "_total";
        metrics.add(Metric.of(name, count.help, counts[count.ordinal()]));
      }
    }
    metrics.add(
        Metric.of(
            "approxifer_extra_work_ratio",
            "Hedges, shadows, parities, screens, comparisons and probes per request.",
            extraWorkRatio()));
    metrics.add(
        Metric.of(
            "approxifer_queue_seconds", "From admission to the first hand-out.", queueSeconds));
    metrics.add(Metric.of("approxifer_group_fill", "Queries in a closed group.", groupFill));
    outcomes.addSeconds(metrics, "approxifer_request_seconds", "From admission to the answer.");
    jobs.addSeconds(metrics, "approxifer_service_seconds", "From hand-out to the worker's answer.");
  }

  Map<String, Object> report() {
    Map<String, Object> report = new LinkedHashMap<>();
    for (Count count : Count.values()) {
      report.put(count.name().toLowerCase(Locale.ROOT), counts[count.ordinal()]);
    }
    report.putAll(outcomes.report());
    report.put("jobs", jobs.report());
    report.put("extra_work_ratio", Math.round(extraWorkRatio() * 1e4) / 1e4);
    return report;
  }

  /** How often each of some things happened, and how long it took. */
  private static final class Tally<K extends Enum<K>> {
    private final K[] keys;
    private final String label;
    private final long[] counts;
    private final Map<K, Histogram> seconds;

    Tally(Class<K> type, String label) {
      keys = type.getEnumConstants();
      this.label = label;
      counts = new long[keys.length];
      seconds = new EnumMap<>(type);
    }

    void took(K key, long nanos) {
      seconds.computeIfAbsent(key, made -> new Histogram(Histogram.SECONDS)).recordNanos(nanos);
    }

    Map<String, Object> report() {
      Map<String, Object> report = new LinkedHashMap<>();
      for (K key : keys) {
        report.put(key.toString(), counts[key.ordinal()]);
      }
      return report;
    }

    void addCounts(List<Metric> metrics, String name, String help) {
      for (K key : keys) {
        metrics.add(Metric.of(name, help, label, key.toString(), counts[key.ordinal()]));
      }
    }

    void addSeconds(List<Metric> metrics, String name, String help) {
      seconds.forEach(
          (key, took) -> metrics.add(Metric.of(name, help, label, key.toString(), took)));
    }
  }
}
