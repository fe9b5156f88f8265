package org.approxifer.torchserve.sim;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What became of the requests, in figures. */
final class Tally {
  private static final long QUARTER = Time.SECOND / 4;

  private final Scenario scenario;
  private final List<Request> requests;

  /** Those that count. */
  private final List<Request> counted;

  Tally(Scenario scenario, List<Request> requests) {
    this.scenario = scenario;
    this.requests = requests;
    counted = requests.subList(Math.min(scenario.skip, requests.size() - 1), requests.size());
  }

  Map<String, Object> figures() {
    Map<String, Object> figures = new LinkedHashMap<>();
    long[] latencies = counted.stream().filter(Request::ok).mapToLong(Request::latency).toArray();
    Arrays.sort(latencies);
    figures.put("counted", counted.size());
    figures.put("p50", percentile(latencies, .5));
    figures.put("p99", percentile(latencies, .99));
    figures.put("p999", percentile(latencies, .999));
    figures.put("failed", 1 - (double) latencies.length / counted.size());
    figures.put("goodput", goodput());
    figures.put("refusal_ms", refusal());
    figures.put("unanswered", requests.stream().filter(request -> request.answers == 0).count());
    figures.put("twice", requests.stream().filter(request -> request.answers > 1).count());
    figures.put("seconds", (last().arrived - Time.BEGIN) / (double) Time.SECOND);
    if (scenario.phases.size() > 1) {
      figures.put("clean_after_s", cleanAfter());
    }
    return figures;
  }

  private Request last() {
    return requests.get(requests.size() - 1);
  }

  /** The smallest latency in ms that no less than this share of the sorted ones reach. */
  private static double percentile(long[] sorted, double share) {
    int index = (int) Math.ceil(share * sorted.length) - 1;
    return sorted.length == 0 ? Double.NaN : Time.toMillis(sorted[Math.max(0, index)]);
  }

  /** Answers in time per second of arrivals, over the nominal capacity. */
  private double goodput() {
    double seconds = (last().arrived - counted.get(0).arrived) / (double) Time.SECOND;
    return counted.stream().filter(this::good).count() / seconds / scenario.capacity();
  }

  private boolean good(Request request) {
    return request.ok()
        && (scenario.deadlineMs == null || Time.toMillis(request.latency()) <= scenario.deadlineMs);
  }

  /** The longest that anybody who got 503 waited for it, in ms. */
  private double refusal() {
    return Time.toMillis(
        counted.stream()
            .filter(request -> request.status == 503)
            .mapToLong(Request::latency)
            .max()
            .orElse(0));
  }

  /**
   * Seconds from the beginning of the last phase to the first of four quarters of a second in a row
   * in each of which nine of ten that came were answered within twice the mean service time.
   */
  private double cleanAfter() {
    double before = 0;
    for (Scenario.Phase phase : scenario.phases.subList(0, scenario.phases.size() - 1)) {
      before += phase.seconds;
    }
    long begin = Time.BEGIN + Time.ofSeconds(before);
    int quarters = (int) ((last().arrived - begin) / QUARTER);
    int[] came = new int[quarters + 1];
    int[] quick = new int[quarters + 1];
    for (Request request : requests) {
      if (request.arrived >= begin) {
        int quarter = (int) ((request.arrived - begin) / QUARTER);
        came[quarter]++;
        boolean good = request.ok() && Time.toMillis(request.latency()) <= 2 * scenario.serviceMs;
        quick[quarter] += good ? 1 : 0;
      }
    }
    int clean = 0;
    for (int quarter = 0; quarter < quarters; quarter++) {
      clean = quick[quarter] >= .9 * came[quarter] ? clean + 1 : 0;
      if (clean == 4) {
        return (quarter - 3) / 4.0;
      }
    }
    return Double.POSITIVE_INFINITY;
  }
}
