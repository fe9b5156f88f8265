package org.approxifer.torchserve.sim;

/** Some runs, on whatever worker, take longer. */
final class SlowRuns implements Fault {
  double share;
  double factor = 1;
  double addMs;
  private transient Dice dice;

  SlowRuns with(Dice dice) {
    this.dice = dice;
    return this;
  }

  @Override
  public boolean hits(Start start) {
    return dice.uniform(Dice.Use.SLOW_RUN, start.key(), start.worker()) < share;
  }

  @Override
  public long stretched(Start start, long nanos) {
    return hits(start) ? Math.round(factor * nanos) + Time.ofMillis(addMs) : nanos;
  }
}
