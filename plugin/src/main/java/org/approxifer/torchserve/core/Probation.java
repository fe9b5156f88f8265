package org.approxifer.torchserve.core;

import java.util.Set;
import java.util.function.Consumer;

/** Which workers are kept from clients, and what they are asked to find out. */
public interface Probation {
  /** Asks the workers whose turn it is; to be called every 50 ms or so. */
  void guard(Set<String> workers);

  /** A worker gave an answer that cannot be used. */
  void unusable(String worker);

  /** Keeps a worker from clients until it is readmitted by hand. */
  ByHand quarantine(String worker);

  /** Gives a worker client work again. */
  ByHand readmit(String worker);

  /** Sets the known query; before any worker is handed one. */
  void probeWith(KnownQuery known);

  /** Sets what restarts a worker by id; it is called outside the router's lock. */
  void onRestart(Consumer<String> restart);
}
