package org.approxifer.torchserve.sim;

/**
 * Random numbers that are functions of a seed and of what they are for, not of the order in which
 * they are asked for: policies are compared on the same throws, and an oracle may look ahead.
 */
final class Dice {
  /** What a throw is for. */
  enum Use {
    ARRIVAL,
    SIZE,
    INPUT,
    NOISE,
    SLOW_RUN,
    FAILURE,
    DEATH
  }

  private final long seed;

  Dice(long seed) {
    this.seed = mix(seed);
  }

  /** Uniform in (0, 1). */
  double uniform(Use use, long what, long more) {
    return ((bits(use, what, more) >>> 11) + .5) * 0x1p-53;
  }

  /** Exponential with mean 1. */
  double exponential(Use use, long what) {
    return -Math.log(uniform(use, what, 0));
  }

  /** Lognormal with mean 1; {@code sigma} is the standard deviation of its logarithm. */
  double lognormal(double sigma, Use use, long what, long more) {
    if (sigma == 0) {
      return 1;
    }
    long bits = bits(use, what, more);
    double radius = Math.sqrt(-2 * Math.log(((bits >>> 11) + .5) * 0x1p-53));
    double normal = radius * Math.cos(2 * Math.PI * ((mix(bits) >>> 11) * 0x1p-53));
    return Math.exp(sigma * normal - sigma * sigma / 2);
  }

  private long bits(Use use, long what, long more) {
    return mix(mix(mix(seed ^ use.ordinal()) ^ what) ^ more);
  }

  /** One step of SplitMix64 (Steele, Lea, Flood 2014). */
  private static long mix(long value) {
    long z = value + 0x9E3779B97F4A7C15L;
    z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
    z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
    return z ^ (z >>> 31);
  }
}
