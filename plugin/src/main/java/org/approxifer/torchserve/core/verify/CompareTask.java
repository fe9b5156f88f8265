package org.approxifer.torchserve.core.verify;

import java.util.HashSet;
import java.util.Set;
import java.util.function.Consumer;
import org.approxifer.torchserve.core.Flow;
import org.approxifer.torchserve.core.Payloads;
import org.approxifer.torchserve.core.Task;
import org.pytorch.serve.util.messages.RequestInput;

/**
 * Two predictions that differ byte for byte, for a worker to tell whether they differ for good; and
 * who wants to know.
 */
final class CompareTask extends Task {
  private static final int MAX_FAILURES = 3;

  /** What came of it. */
  enum Verdict {
    AGREE,
    DISAGREE,
    UNKNOWN
  }

  private final byte[] first;
  private final byte[] second;
  private final Set<String> parties;
  private final long impartialUntil;
  private final Flow flow;
  private final Consumer<Verdict> then;
  private int failures;
  private boolean done;

  /**
   * @param parties workers whose own answers are compared; another is asked, if there is one
   * @param impartialUntil monotonic time in ns; afterwards any worker is asked
   * @param lane MAIN where no client waits for it
   */
  CompareTask(
      byte[] first,
      byte[] second,
      Set<String> parties,
      long impartialUntil,
      Lane lane,
      Flow flow,
      Consumer<Verdict> then) {
    super(Kind.COMPARE, lane, null, null);
    this.first = first;
    this.second = second;
    this.parties = new HashSet<>(parties);
    this.impartialUntil = impartialUntil;
    this.flow = flow;
    this.then = then;
  }

  @Override
  protected Flow flow() {
    return flow;
  }

  @Override
  protected boolean dead() {
    return done;
  }

  @Override
  protected boolean may(String worker, long now) {
    return !parties.contains(worker) || now - impartialUntil >= 0;
  }

  @Override
  protected RequestInput payload(Payloads payloads) {
    return payloads.job(kind).parameter("first", first).parameter("second", second).signed();
  }

  /** Counts a worker that did not do it; false once it is not worth another try. */
  boolean triedBy(String worker) {
    parties.add(worker);
    return ++failures < MAX_FAILURES;
  }

  void end(Verdict verdict) {
    if (!done) {
      done = true;
      then.accept(verdict);
    }
  }
}
