package org.approxifer.torchserve.sim;

/** The first workers stand still for the end of each period, with what they have in hand. */
final class Freezes implements Fault {
  int count = 1;
  double forS = 5;
  double everyS = 10;

  @Override
  public boolean troubles(int worker, long now, long nanos) {
    return worker < count && thawed(now, nanos) > nanos;
  }

  @Override
  public long stretched(Start start, long nanos) {
    return start.worker() < count ? thawed(start.now(), nanos) : nanos;
  }

  /** How long work of {@code nanos} takes from {@code now} on with the frozen times in between. */
  private long thawed(long now, long nanos) {
    long every = Time.ofSeconds(everyS);
    long awake = every - Time.ofSeconds(forS);
    long left = nanos;
    long at = now - Time.BEGIN;
    while (true) {
      long phase = at % every;
      long runs = Math.max(0, awake - phase);
      if (left < runs) {
        return at + left - (now - Time.BEGIN);
      }
      left -= runs;
      at += every - phase;
    }
  }
}
