package org.approxifer.torchserve.sim;

/** Who decides which worker does what: the router, or a policy to compare it with. */
interface Server {
  /** A request has come. */
  void arrived(Request request);

  /** A worker asks for work: it has just started, or ended a run. */
  void idle(int worker);

  /** A run has ended, with answers or errors; the worker asks for work next. */
  void ended(Run run);

  /** A worker's process died with a run in its hands. */
  void died(Run run);

  /** A worker's process died while it waited for work. */
  void left(int worker);

  /** When {@link #tick} is to be called next; Long.MAX_VALUE for never. */
  default long due() {
    return Long.MAX_VALUE;
  }

  /** Something that the server had planned is due. */
  default void tick() {}
}
