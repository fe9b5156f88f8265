package org.approxifer.torchserve.sim;

import com.google.gson.JsonObject;

/** Something that is wrong with workers or runs. */
interface Fault {
  /** The beginning of a run: what a fault may depend on. */
  record Start(int worker, long now, long key) {}

  /** How long a run lasts that would last {@code nanos} without this fault. */
  default long stretched(Start start, long nanos) {
    return nanos;
  }

  /** True if the run ends in errors. */
  default boolean fails(Start start) {
    return false;
  }

  /** True if this run, and not its worker, is hit: elsewhere it would not be. */
  default boolean hits(Start start) {
    return false;
  }

  /** True if the worker is no place for a run of this length now. */
  default boolean troubles(int worker, long now, long nanos) {
    return false;
  }

  /** Enters what this fault does by itself into the agenda. */
  default void plan(Floor floor, Agenda agenda) {}

  /** The fault that {@code kind} names, with the settings beside it. */
  static Fault of(JsonObject settings, Scenario scenario, Dice dice) {
    String kind = settings.get("kind").getAsString();
    return switch (kind) {
      case "slow_runs" -> Scenario.settings(settings, SlowRuns.class).with(dice);
      case "slow_workers" -> Scenario.settings(settings, SlowWorkers.class).of(scenario);
      case "freezes" -> Scenario.settings(settings, Freezes.class);
      case "failures" -> Scenario.settings(settings, Failures.class).of(scenario, dice);
      case "deaths" -> Scenario.settings(settings, Deaths.class).of(scenario, dice);
      default -> throw new IllegalArgumentException("no fault is called " + kind);
    };
  }
}
