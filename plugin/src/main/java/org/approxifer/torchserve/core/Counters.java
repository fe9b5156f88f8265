package org.approxifer.torchserve.core;

import java.util.EnumMap;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/** What happened since the model was attached. Guarded by the router's lock. */
final class Counters {
  private static final Set<Task.Kind> EXTRA =
      EnumSet.of(
          Task.Kind.HEDGE, Task.Kind.PARITY, Task.Kind.SCREEN, Task.Kind.COMPARE, Task.Kind.PROBE);

  long requests;
  long late;
  long hedges;
  long hedgesDenied;
  long deaths;
  long erasures;
  long returned;
  long unreturned;
  long duplicates;
  long gone;
  long groups;
  long disagreements;

  /** Groups whose answers a worker has screened. */
  long screens;

  /** Answers that were found to fit to their group. */
  long screened;

  /** Answers that were not, and are computed again. */
  long doubtful;

  /** Answers that no group could screen: other workers check them. */
  long unscreened;

  long quarantines;
  final Histogram queueSeconds = new Histogram(Histogram.SECONDS);
  final Histogram groupFill;
  private final Map<Outcome, Long> outcomes = new EnumMap<>(Outcome.class);
  private final Map<Outcome, Histogram> requestSeconds = new EnumMap<>(Outcome.class);
  private final Map<Task.Kind, Histogram> serviceSeconds = new EnumMap<>(Task.Kind.class);
  private final Map<Task.Kind, Long> jobs = new EnumMap<>(Task.Kind.class);

  Counters(int queries) {
    groupFill = Histogram.upTo(queries);
    for (Outcome outcome : Outcome.values()) {
      outcomes.put(outcome, 0L);
    }
    for (Task.Kind kind : Task.Kind.values()) {
      jobs.put(kind, 0L);
    }
  }

  void settled(Outcome outcome, long nanos) {
    outcomes.merge(outcome, 1L, Long::sum);
    requestSeconds
        .computeIfAbsent(outcome, key -> new Histogram(Histogram.SECONDS))
        .recordNanos(nanos);
  }

  void served(Task.Kind kind, long nanos) {
    serviceSeconds
        .computeIfAbsent(kind, key -> new Histogram(Histogram.SECONDS))
        .recordNanos(nanos);
  }

  /** Hedges, parities, screens, comparisons and probes per request: what the policy added. */
  double extraWorkRatio() {
    long extra = 0;
    for (Task.Kind kind : EXTRA) {
      extra += jobs.get(kind);
    }
    return requests == 0 ? 0 : (double) extra / requests;
  }

  void addTo(List<Metric> metrics) {
    outcomes.forEach(
        (outcome, count) ->
            metrics.add(
                Metric.of(
                    "approxifer_requests_total",
                    "Requests by how they were answered.",
                    "outcome",
                    outcome.toString(),
                    count)));
    jobs.forEach(
        (kind, count) ->
            metrics.add(
                Metric.of(
                    "approxifer_jobs_total",
                    "Jobs handed to workers.",
                    "kind",
                    name(kind),
                    count)));
    metrics.add(Metric.of("approxifer_late_jobs_total", "Jobs late by policy.", late));
    metrics.add(Metric.of("approxifer_hedges_total", "Queries sent again because late.", hedges));
    metrics.add(
        Metric.of(
            "approxifer_hedges_denied_total",
            "Hedges put off: the budget is spent, or all are slow and clients wait.",
            hedgesDenied));
    metrics.add(
        Metric.of(
            "approxifer_disagreements_total",
            "Answers of different workers to one query that differed.",
            disagreements));
    metrics.add(
        Metric.of("approxifer_screened_total", "Answers that a screen found to fit.", screened));
    metrics.add(
        Metric.of("approxifer_doubtful_total", "Answers that a screen found doubtful.", doubtful));
    metrics.add(
        Metric.of(
            "approxifer_unscreened_total",
            "Answers that no group could screen; other workers check them.",
            unscreened));
    metrics.add(
        Metric.of("approxifer_clients_gone_total", "Clients that hung up before an answer.", gone));
    metrics.add(
        Metric.of(
            "approxifer_extra_work_ratio",
            "Hedges, parities, screens, comparisons and probes per request.",
            extraWorkRatio()));
    metrics.add(
        Metric.of(
            "approxifer_queue_seconds", "From admission to the first hand-out.", queueSeconds));
    metrics.add(Metric.of("approxifer_group_fill", "Queries in a closed group.", groupFill));
    requestSeconds.forEach(
        (outcome, histogram) ->
            metrics.add(
                Metric.of(
                    "approxifer_request_seconds",
                    "From admission to the answer.",
                    "outcome",
                    outcome.toString(),
                    histogram)));
    serviceSeconds.forEach(
        (kind, histogram) ->
            metrics.add(
                Metric.of(
                    "approxifer_service_seconds",
                    "From hand-out to the worker's answer.",
                    "kind",
                    name(kind),
                    histogram)));
  }

  private static String name(Task.Kind kind) {
    return kind.name().toLowerCase(Locale.ROOT);
  }

  void handed(Task.Kind kind) {
    jobs.merge(kind, 1L, Long::sum);
  }

  Map<String, Object> report() {
    Map<String, Object> report = new LinkedHashMap<>();
    report.put("requests", requests);
    outcomes.forEach((outcome, count) -> report.put(outcome.toString(), count));
    report.put("client_gone", gone);
    Map<String, Object> handed = new LinkedHashMap<>();
    jobs.forEach((kind, count) -> handed.put(name(kind), count));
    report.put("jobs", handed);
    report.put("late", late);
    report.put("hedges", hedges);
    report.put("hedges_denied", hedgesDenied);
    report.put("worker_deaths", deaths);
    report.put("erasures", erasures);
    report.put("returned", returned);
    report.put("unreturned", unreturned);
    report.put("duplicate_callbacks", duplicates);
    report.put("groups", groups);
    report.put("disagreements", disagreements);
    report.put("screens", screens);
    report.put("screened", screened);
    report.put("doubtful", doubtful);
    report.put("unscreened", unscreened);
    report.put("quarantines", quarantines);
    report.put("extra_work_ratio", Math.round(extraWorkRatio() * 1e4) / 1e4);
    return report;
  }
}
