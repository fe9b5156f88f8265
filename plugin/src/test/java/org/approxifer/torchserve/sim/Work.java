package org.approxifer.torchserve.sim;

import java.util.List;

/** How long runs take on a healthy worker, and what faults make of that. */
final class Work {
  private final Scenario scenario;
  private final Dice dice;
  private final List<Fault> faults;
  private final long shiftAt;

  Work(Scenario scenario, Dice dice) {
    this.scenario = scenario;
    this.dice = dice;
    faults = scenario.faults.stream().map(fault -> Fault.of(fault, scenario, dice)).toList();
    shiftAt =
        scenario.shiftAtS < Double.POSITIVE_INFINITY
            ? Time.BEGIN + Time.ofSeconds(scenario.shiftAtS)
            : Long.MAX_VALUE;
  }

  void plan(Floor floor, Agenda agenda) {
    faults.forEach(fault -> fault.plan(floor, agenda));
  }

  Request request(int index, long now) {
    double size = dice.lognormal(scenario.sizeSigma, Dice.Use.SIZE, index, 0);
    boolean heavy = dice.uniform(Dice.Use.INPUT, index, 0) < scenario.heavyShare;
    return new Request(index, now, size, heavy ? scenario.heavyFactor : 1);
  }

  /** A run of these jobs that begins now; {@code attempt} tells throws for one request apart. */
  static Fault.Start start(int worker, List<Job> jobs, long now, int attempt) {
    return new Fault.Start(worker, now, 64L * jobs.get(0).request().index + attempt);
  }

  /** What the run would take were nothing wrong. */
  long healthy(Fault.Start start, List<Job> jobs) {
    double sum = 0;
    for (Job job : jobs) {
      sum += job.request().size * job.request().weight;
    }
    double ms = start.now() < shiftAt ? scenario.serviceMs : scenario.shiftToMs;
    double noise = dice.lognormal(scenario.sigma, Dice.Use.NOISE, start.key(), start.worker());
    return Time.ofMillis(ms * scenario.cost(jobs.size()) * sum / jobs.size() * noise);
  }

  long actual(Fault.Start start, long healthy) {
    long nanos = healthy;
    for (Fault fault : faults) {
      nanos = fault.stretched(start, nanos);
    }
    return nanos;
  }

  boolean fails(Fault.Start start) {
    return faults.stream().anyMatch(fault -> fault.fails(start));
  }

  /** True if a fault hits this very run, whichever the worker. */
  boolean hit(Fault.Start start) {
    return faults.stream().anyMatch(fault -> fault.hits(start));
  }

  /** True if a fault makes a worker no place for a run of this length now. */
  boolean troubles(int worker, long now, long nanos) {
    return faults.stream().anyMatch(fault -> fault.troubles(worker, now, nanos));
  }
}
