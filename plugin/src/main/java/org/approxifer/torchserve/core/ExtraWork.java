package org.approxifer.torchserve.core;

import java.util.Map;

/**
 * A token bucket that bounds what the policy adds to the load: each admitted request adds a share
 * of a token, each hedge or parity takes one.
 *
 * <p>The share is 1 %; it opens to the policy's {@code max_extra_load} while some workers, but not
 * most, are dead or persistently slow. A full bucket holds {@link #BURST} tokens, and as many can
 * be owed: over any number of requests no more than their share and twice that many jobs are added.
 */
final class ExtraWork {
  private static final double CALM = .01;
  private static final double BURST = 10;

  private final double maxShare;
  private double tokens = BURST;
  private boolean open;

  ExtraWork(double maxShare, boolean open) {
    this.maxShare = maxShare;
    this.open = open;
  }

  void admitted() {
    tokens = Math.min(BURST, tokens + share());
  }

  void open(boolean open) {
    this.open = open;
  }

  boolean tryTake() {
    return takeDownTo(0);
  }

  /** The same, of tokens that later requests have to bring. */
  boolean tryTakeOnCredit() {
    return takeDownTo(-BURST);
  }

  private boolean takeDownTo(double min) {
    if (tokens - 1 < min) {
      return false;
    }
    tokens -= 1;
    return true;
  }

  Map<String, Object> report() {
    return Map.of("share", share(), "tokens", Math.round(tokens * 100) / 100.0);
  }

  private double share() {
    return open ? maxShare : Math.min(CALM, maxShare);
  }
}
