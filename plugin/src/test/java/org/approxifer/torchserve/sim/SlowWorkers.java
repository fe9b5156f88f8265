package org.approxifer.torchserve.sim;

/** Some workers take longer for everything begun on them; others every so often, if they move. */
final class SlowWorkers implements Fault {
  int count = 1;
  double factor = 1;
  double addMs;
  double moveEveryS = Double.POSITIVE_INFINITY;
  private transient int workers;

  SlowWorkers of(Scenario scenario) {
    workers = scenario.workers;
    return this;
  }

  @Override
  public boolean troubles(int worker, long now, long nanos) {
    long moves = (long) ((now - Time.BEGIN) / (moveEveryS * Time.SECOND));
    long first = moves * count % workers;
    return (worker - first + workers) % workers < count;
  }

  @Override
  public long stretched(Start start, long nanos) {
    return troubles(start.worker(), start.now(), nanos)
        ? Math.round(factor * nanos) + Time.ofMillis(addMs)
        : nanos;
  }
}
