package org.approxifer.torchserve.core;

import java.util.Set;
import java.util.function.Consumer;

/**
 * Two predictions that differ byte for byte, and who wants to know whether they differ for good.
 */
final class Comparison {
  /** What came of it. */
  enum Verdict {
    AGREE,
    DISAGREE,
    UNKNOWN
  }

  final byte[] first;
  final byte[] second;

  /** Workers whose own answers are compared; another should judge, if there is one. */
  final Set<String> parties;

  /** Monotonic time in ns; afterwards any worker may judge. */
  final long impartialUntil;

  /** No client waits for it: it comes after the work of those that wait. */
  final boolean behind;

  private final Consumer<Verdict> then;
  private int failures;
  private boolean done;

  Comparison(
      byte[] first,
      byte[] second,
      Set<String> parties,
      long impartialUntil,
      boolean behind,
      Consumer<Verdict> then) {
    this.first = first;
    this.second = second;
    this.parties = parties;
    this.impartialUntil = impartialUntil;
    this.behind = behind;
    this.then = then;
  }

  boolean done() {
    return done;
  }

  boolean mayJudge(String worker, long now) {
    return !parties.contains(worker) || now - impartialUntil >= 0;
  }

  /** Counts a worker that did not do it; false once it is not worth another try. */
  boolean failedAgain() {
    return ++failures < 3;
  }

  void end(Verdict verdict) {
    if (!done) {
      done = true;
      then.accept(verdict);
    }
  }
}
