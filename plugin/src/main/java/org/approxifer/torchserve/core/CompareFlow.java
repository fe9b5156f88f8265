package org.approxifer.torchserve.core;

import com.google.gson.JsonObject;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import java.util.function.Consumer;
import org.approxifer.torchserve.core.Comparison.Verdict;

/**
 * Whether two predictions are the same. Equal bytes are equal; what differs is compared by a worker
 * with a tolerance, for numbers are Python's business.
 */
final class CompareFlow implements Flow {
  private static final long IMPARTIAL_NANOS = 100_000_000L;

  private final Router router;

  CompareFlow(Router router) {
    this.router = router;
  }

  /**
   * @param parties workers that should not judge
   * @param behind whether no client waits for the verdict
   */
  void compare(
      byte[] one, byte[] other, Set<String> parties, boolean behind, Consumer<Verdict> then) {
    if (Arrays.equals(one, other)) {
      then.accept(Verdict.AGREE);
      return;
    }
    long until = router.clock.nanos() + IMPARTIAL_NANOS;
    Set<String> own = new HashSet<>(parties);
    router.enqueueFirst(Task.compare(new Comparison(one, other, own, until, behind, then)));
  }

  @Override
  public void answered(Assignment assignment, Answer answer, Reply reply) {
    JsonObject error = reply.object("error");
    if (error == null && reply.header.has("agree")) {
      boolean agree = reply.header.get("agree").getAsBoolean();
      assignment.task.comparison.end(agree ? Verdict.AGREE : Verdict.DISAGREE);
    } else {
      again(assignment);
    }
  }

  @Override
  public void erased(Assignment assignment, String reason) {
    router.counters.erasures++;
    router.ledger.of(assignment.worker).erased(router.clock.nanos());
    again(assignment);
  }

  @Override
  public void died(Assignment assignment) {
    again(assignment);
  }

  @Override
  public void failed(Assignment assignment, int status, String message) {
    again(assignment);
  }

  @Override
  public void returned(Task task) {
    if (!task.dead()) {
      router.enqueue(task);
    }
  }

  @Override
  public void late(Assignment assignment) {
    again(assignment);
  }

  private void again(Assignment assignment) {
    Comparison comparison = assignment.task.comparison;
    if (comparison.failedAgain()) {
      comparison.parties.add(assignment.worker);
      router.enqueueFirst(assignment.task);
    } else {
      comparison.end(Verdict.UNKNOWN);
    }
  }
}
