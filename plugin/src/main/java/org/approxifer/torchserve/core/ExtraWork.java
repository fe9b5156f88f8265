package org.approxifer.torchserve.core;

/**
 * A token bucket for parities, which must be there before anything is late: each admitted request
 * adds the policy's {@code max_extra_load} of a token, each parity takes one.
 */
final class ExtraWork {
  private static final double BURST = 10;

  private final double share;
  private double tokens = BURST;

  ExtraWork(double share) {
    this.share = share;
  }

  void admitted() {
    tokens = Math.min(BURST, tokens + share);
  }

  boolean tryTake() {
    if (tokens < 1) {
      return false;
    }
    tokens -= 1;
    return true;
  }
}
