package org.approxifer.torchserve.core;

/** Why what a worker sent cannot be used; its job counts as not done: an erasure. */
public final class Unusable extends Exception {
  private static final long serialVersionUID = 1;

  Unusable(String reason) {
    super(reason);
  }
}
