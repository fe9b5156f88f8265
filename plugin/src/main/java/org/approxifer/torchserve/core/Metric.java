package org.approxifer.torchserve.core;

import java.util.Map;

/**
 * One value for a metrics page.
 *
 * @param name as on the page, with unit, and {@code _total} for a counter
 * @param help one sentence
 * @param labels beside model and version, which the caller adds
 * @param value of a counter or gauge, else unused
 * @param histogram of a histogram, else null
 */
public record Metric(
    String name,
    String help,
    Map<String, String> labels,
    double value,
    Histogram.Snapshot histogram) {

  static Metric of(String name, String help, double value) {
    return new Metric(name, help, Map.of(), value, null);
  }

  static Metric of(String name, String help, String label, String is, double value) {
    return new Metric(name, help, Map.of(label, is), value, null);
  }

  static Metric of(String name, String help, Histogram histogram) {
    return new Metric(name, help, Map.of(), 0, histogram.snapshot());
  }

  static Metric of(String name, String help, String label, String is, Histogram histogram) {
    return new Metric(name, help, Map.of(label, is), 0, histogram.snapshot());
  }
}
