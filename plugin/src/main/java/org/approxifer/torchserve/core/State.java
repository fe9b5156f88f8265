package org.approxifer.torchserve.core;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.DoubleSupplier;
import java.util.function.IntSupplier;
import java.util.function.Supplier;

/** What a router shows of itself, in the order in which its parts were named. */
final class State {
  private final List<Consumer<Map<String, Object>>> parts = new ArrayList<>();
  private final List<Consumer<List<Metric>>> metrics = new ArrayList<>();

  /** Shows entries at the top. */
  State with(Supplier<Map<String, Object>> part) {
    parts.add(report -> report.putAll(part.get()));
    return this;
  }

  /** Shows a part under a key of its own. */
  State with(String key, Supplier<?> part) {
    parts.add(report -> report.put(key, part.get()));
    return this;
  }

  /** Shows a number under a key, and as the metric approxifer_(metric). */
  State with(String key, String metric, String help, IntSupplier value) {
    return with(key, value::getAsInt).metric(metric, help, value::getAsInt);
  }

  State metric(String name, String help, DoubleSupplier value) {
    return metrics(all -> all.add(Metric.of("approxifer_" + name, help, value.getAsDouble())));
  }

  State metrics(Consumer<List<Metric>> some) {
    metrics.add(some);
    return this;
  }

  Map<String, Object> asMap() {
    Map<String, Object> report = new LinkedHashMap<>();
    parts.forEach(part -> part.accept(report));
    return report;
  }

  List<Metric> asMetrics() {
    List<Metric> all = new ArrayList<>();
    metrics.forEach(some -> some.accept(all));
    return all;
  }
}
