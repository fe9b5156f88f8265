package org.approxifer.torchserve.core;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What a router shows of itself. Called under its lock. */
final class State {
  private final Router router;

  State(Router router) {
    this.router = router;
  }

  Map<String, Object> asMap() {
    Map<String, Object> report = new LinkedHashMap<>();
    report.putAll(router.plan.report());
    report.putAll(router.lateness.report());
    report.put("in_flight", router.live.size());
    report.put("waiting", router.backlog.waiting());
    report.put("outstanding_jobs", router.out.size());
    report.put("idle_workers", router.handOut.idle());
    report.put("open_groups", router.groups.open());
    report.put("unscreened_groups", router.screens.open());
    report.put("dropped_jobs", router.backlog.dropped());
    report.put("extra_work", router.extra.report());
    report.put("counters", router.counters.report());
    report.put("workers", router.ledger.report(router.clock.nanos(), router.holders));
    return report;
  }

  List<Metric> asMetrics() {
    List<Metric> metrics = new ArrayList<>();
    router.counters.addTo(metrics);
    router.ledger.addTo(metrics, router.holders);
    metrics.add(
        Metric.of(
            "approxifer_dropped_jobs_total",
            "Jobs dropped because what they were for was settled.",
            router.backlog.dropped()));
    metrics.add(Metric.of("approxifer_in_flight", "Clients that wait.", router.live.size()));
    metrics.add(
        Metric.of("approxifer_waiting", "Tasks that wait for a worker.", router.backlog.waiting()));
    metrics.add(
        Metric.of(
            "approxifer_outstanding_jobs",
            "Jobs that workers have not answered.",
            router.out.size()));
    metrics.add(Metric.of("approxifer_idle_workers", "Workers that wait.", router.handOut.idle()));
    metrics.add(
        Metric.of(
            "approxifer_late_after_seconds",
            "When a job is late now.",
            router.lateness.nanos() / 1e9));
    return metrics;
  }
}
