package org.approxifer.torchserve.sim;

import com.google.gson.FieldNamingPolicy;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import java.util.List;

/** What is simulated, as JSON with snake_case keys states it; keys left out keep what is here. */
final class Scenario {
  private static final Gson GSON =
      new GsonBuilder()
          .setFieldNamingPolicy(FieldNamingPolicy.LOWER_CASE_WITH_UNDERSCORES)
          .create();

  int workers = 9;
  int batch = 1;

  /** Share of a run's cost that does not grow with its batch; 1 where any batch costs the same. */
  double flat = 1;

  /** Mean service time of a batch of one. */
  double serviceMs = 50;

  /** Standard deviation of the logarithm of a run's service time. */
  double sigma = .1;

  /** The same of the sizes of inputs; the service time is proportional to the size. */
  double sizeSigma;

  /** Share of inputs that need {@code heavyFactor} times the service; nothing tells which. */
  double heavyShare;

  double heavyFactor = 1;

  /** From here on the mean service time is another. */
  double shiftAtS = Double.POSITIVE_INFINITY;

  double shiftToMs;

  /** Arrivals, one after the other; the last phase lasts until all requests have come. */
  List<Phase> phases = List.of(new Phase());

  List<JsonObject> faults = List.of();

  int requests = 60_000;

  /** Requests that are served but not counted: they come before things have settled. */
  int skip;

  /** An answer after this is no good; null: all are. */
  Double deadlineMs = 2000.0;

  /** How many may wait. */
  int queue = 100;

  long seed = 1;

  static Scenario parse(String json) {
    return GSON.fromJson(json, Scenario.class);
  }

  /** A fault's own settings. */
  static <T> T settings(JsonObject fault, Class<T> type) {
    return GSON.fromJson(fault, type);
  }

  static String json(Object value) {
    return GSON.toJson(value);
  }

  /** The cost of a batch in runs of a batch of one. */
  double cost(int size) {
    return flat + (1 - flat) * size;
  }

  /** Mean service time of a batch of one over all inputs, before any shift. */
  double meanServiceMs() {
    return serviceMs * (1 + heavyShare * (heavyFactor - 1));
  }

  /** Requests per second that healthy workers with full batches serve. */
  double capacity() {
    return workers * batch * 1e3 / (meanServiceMs() * cost(batch));
  }

  /** A time with one rate of arrivals. */
  static final class Phase {
    /** Offered rate over nominal capacity. */
    double load = .3;

    double seconds = Double.POSITIVE_INFINITY;
  }
}
