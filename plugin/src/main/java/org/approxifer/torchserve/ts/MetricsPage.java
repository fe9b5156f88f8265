package org.approxifer.torchserve.ts;

import io.prometheus.client.Collector;
import io.prometheus.client.Collector.MetricFamilySamples.Sample;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.approxifer.torchserve.core.Metric;
import org.pytorch.serve.wlm.ModelManager;

/** Our metrics on TorchServe's own {@code /metrics} page (metrics_mode=prometheus). */
final class MetricsPage extends Collector {
  private final Watcher watcher;

  MetricsPage(Watcher watcher) {
    this.watcher = watcher;
  }

  @Override
  public List<MetricFamilySamples> collect() {
    Map<String, MetricFamilySamples> families = new LinkedHashMap<>();
    ModelManager models = ModelManager.getInstance();
    for (Attachment attachment : watcher.attachments()) {
      List<Metric> metrics = attachment.router().metrics();
      metrics.add(
          new Metric(
              "approxifer_live_workers",
              "Workers that have loaded the model.",
              Map.of(),
              attachment.liveWorkers(models),
              null));
      metrics.add(
          new Metric(
              "approxifer_needed_workers",
              "Live workers that the code needs.",
              Map.of(),
              attachment.neededWorkers(),
              null));
      for (Metric metric : metrics) {
        MetricFamilySamples family =
            families.computeIfAbsent(
                metric.name(),
                name ->
                    new MetricFamilySamples(name, type(metric), metric.help(), new ArrayList<>()));
        add(family.samples, metric, attachment);
      }
    }
    return new ArrayList<>(families.values());
  }

  private static Type type(Metric metric) {
    if (metric.histogram() != null) {
      return Type.HISTOGRAM;
    }
    return metric.name().endsWith("_total") ? Type.COUNTER : Type.GAUGE;
  }

  private static void add(List<Sample> samples, Metric metric, Attachment attachment) {
    List<String> names = new ArrayList<>(List.of("model", "version"));
    List<String> values =
        new ArrayList<>(
            List.of(attachment.model().getModelName(), attachment.model().getVersion()));
    metric
        .labels()
        .forEach(
            (name, value) -> {
              names.add(name);
              values.add(value);
            });
    if (metric.histogram() == null) {
      samples.add(new Sample(metric.name(), names, values, metric.value()));
      return;
    }
    List<Double> bounds = metric.histogram().bounds();
    List<Long> counts = metric.histogram().cumulative();
    List<String> bucketNames = new ArrayList<>(names);
    bucketNames.add("le");
    for (int i = 0; i < bounds.size(); i++) {
      List<String> bucketValues = new ArrayList<>(values);
      bucketValues.add(doubleToGoString(bounds.get(i)));
      samples.add(new Sample(metric.name() + "_bucket", bucketNames, bucketValues, counts.get(i)));
    }
    samples.add(new Sample(metric.name() + "_count", names, values, counts.get(counts.size() - 1)));
    samples.add(new Sample(metric.name() + "_sum", names, values, metric.histogram().sum()));
  }
}
