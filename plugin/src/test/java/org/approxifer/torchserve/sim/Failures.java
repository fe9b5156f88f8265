package org.approxifer.torchserve.sim;

/**
 * The last workers fail some of their runs, and need next to no time for that. They are the last
 * because a router that prefers who came last begins with them.
 */
final class Failures implements Fault {
  int count = 1;
  double share = 1;
  double ms = 2;
  private transient int workers;
  private transient Dice dice;

  Failures of(Scenario scenario, Dice dice) {
    workers = scenario.workers;
    this.dice = dice;
    return this;
  }

  @Override
  public boolean fails(Start start) {
    return mine(start.worker())
        && dice.uniform(Dice.Use.FAILURE, start.key(), start.worker()) < share;
  }

  @Override
  public long stretched(Start start, long nanos) {
    return fails(start) ? Time.ofMillis(ms) : nanos;
  }

  @Override
  public boolean troubles(int worker, long now, long nanos) {
    return mine(worker);
  }

  private boolean mine(int worker) {
    return worker >= workers - count;
  }
}
