package org.approxifer.torchserve.sim;

/** The first workers fail some of their runs, and need next to no time for that. */
final class Failures implements Fault {
  int count = 1;
  double share = 1;
  double ms = 1;
  private transient Dice dice;

  Failures with(Dice dice) {
    this.dice = dice;
    return this;
  }

  @Override
  public boolean fails(Start start) {
    return start.worker() < count
        && dice.uniform(Dice.Use.FAILURE, start.key(), start.worker()) < share;
  }

  @Override
  public long stretched(Start start, long nanos) {
    return fails(start) ? Time.ofMillis(ms) : nanos;
  }

  @Override
  public boolean troubles(int worker, long now, long nanos) {
    return worker < count;
  }
}
