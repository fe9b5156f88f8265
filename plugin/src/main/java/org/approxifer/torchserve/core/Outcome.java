package org.approxifer.torchserve.core;

import java.util.Locale;

/** How an answer came about; every answer says which. */
public enum Outcome {
  /** The model's own answer, from the first worker it was sent to. */
  EXACT,
  /** The model's own answer, from a worker it was sent to again. */
  HEDGED,
  /** Decoded from other answers of the group. */
  RECONSTRUCTED,
  /** No answer: an error with a reason. */
  FAILED;

  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
