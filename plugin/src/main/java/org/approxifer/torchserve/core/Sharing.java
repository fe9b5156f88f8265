package org.approxifer.torchserve.core;

/**
 * What a task has a worker do, and with which others it may share a batch: whatever one forward of
 * the model's own weights computes goes together, be it a client's request, a copy, a probe or a
 * coded query. What needs no forward goes out alone, so that it waits for none.
 */
enum Sharing {
  FORWARD,
  /** Of other weights than the model's. */
  OWN_WEIGHTS,
  ENCODE,
  DECODE,
  SCREEN,
  COMPARE;

  static Sharing of(Task task) {
    return switch (task.kind) {
      case RAW, HEDGE, SHADOW, PROBE -> FORWARD;
      case PARITY, CODED -> task.group.ofBase(task.coded) ? FORWARD : OWN_WEIGHTS;
      case ENCODE -> ENCODE;
      case DECODE -> DECODE;
      case SCREEN -> SCREEN;
      case COMPARE -> COMPARE;
    };
  }

  /** True if it computes the model, whichever weights. */
  boolean forward() {
    return this == FORWARD || this == OWN_WEIGHTS;
  }

  /** True if a batch may hold nothing but this task. */
  static boolean alone(Task task) {
    return of(task) != FORWARD || task.alone();
  }
}
