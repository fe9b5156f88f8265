package org.approxifer.torchserve.core;

/**
 * Whether requests to a model version can be answered as its archive promises.
 *
 * @param reason in words, what is missing; null if nothing is
 */
public record Readiness(State state, String reason) {
  /** What a model version is at, and what it is called in answers. */
  public enum State {
    READY("ready"),
    /** Workers load, or TorchServe restarts them. */
    LOADING("loading"),
    /** There would be enough workers if none were in quarantine. */
    QUARANTINED("quarantined"),
    SCALED_TO_0("scaled to 0"),
    /** Unregistered; who waits is still answered. */
    DRAINING("draining"),
    /** What its archive says cannot be read. */
    REFUSED("refused");

    private final String words;

    State(String words) {
      this.words = words;
    }

    @Override
    public String toString() {
      return words;
    }
  }

  /**
   * The readiness of a version that is served.
   *
   * @param registered whether it still is
   * @param wanted how many workers it was scaled to
   * @param needed how many it takes
   * @param live how many have loaded it
   * @param usable how many of those are not in quarantine
   */
  public static Readiness of(boolean registered, int wanted, int needed, int live, int usable) {
    if (!registered) {
      return new Readiness(State.DRAINING, "it is unregistered; who still waits is answered");
    } else if (usable >= needed) {
      return new Readiness(State.READY, null);
    } else if (live >= needed) {
      int away = live - usable;
      String quarantined = "of %d live workers %d in quarantine, and %d others are needed";
      return new Readiness(State.QUARANTINED, String.format(quarantined, live, away, needed));
    } else if (wanted == 0) {
      return new Readiness(State.SCALED_TO_0, "it is scaled to 0 workers");
    }
    String loading = "%d workers of the %d that are needed have loaded it";
    return new Readiness(State.LOADING, String.format(loading, live, needed));
  }

  /** The readiness of a version whose requests are all refused. */
  public static Readiness refused(String reason) {
    return new Readiness(State.REFUSED, reason);
  }

  public boolean ready() {
    return state == State.READY;
  }
}
