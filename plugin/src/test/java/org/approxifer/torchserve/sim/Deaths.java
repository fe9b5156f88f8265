package org.approxifer.torchserve.sim;

/**
 * Every so often one worker's process, whichever, dies and is started again; the first run of the
 * new one takes longer (autotuning, compiling).
 */
final class Deaths implements Fault {
  double everyS = 10;
  double restartS = 2;
  double firstCallS = 3;
  private transient int workers;
  private transient Dice dice;

  Deaths of(Scenario scenario, Dice dice) {
    workers = scenario.workers;
    this.dice = dice;
    return this;
  }

  @Override
  public void plan(Floor floor, Agenda agenda) {
    plan(floor, agenda, 1);
  }

  private void plan(Floor floor, Agenda agenda, long number) {
    agenda.at(
        due(number),
        () -> {
          floor.kill(victim(number), Time.ofSeconds(restartS), Time.ofSeconds(firstCallS));
          plan(floor, agenda, number + 1);
        });
  }

  private long due(long number) {
    return Time.BEGIN + number * Time.ofSeconds(everyS);
  }

  private int victim(long number) {
    return (int) (workers * dice.uniform(Dice.Use.DEATH, number, 0));
  }

  @Override
  public boolean troubles(int worker, long now, long nanos) {
    long next = (now - Time.BEGIN) / Time.ofSeconds(everyS) + 1;
    return victim(next) == worker && due(next) <= now + nanos;
  }
}
