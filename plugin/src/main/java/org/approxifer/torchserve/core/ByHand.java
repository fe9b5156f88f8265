package org.approxifer.torchserve.core;

/** What became of an operator's wish. */
public enum ByHand {
  DONE,
  /** Half of the workers are in quarantine: no more. */
  REFUSED,
  /** There is no such worker. */
  UNKNOWN
}
