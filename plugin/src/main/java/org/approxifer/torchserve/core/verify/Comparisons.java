package org.approxifer.torchserve.core.verify;

import java.util.Arrays;
import java.util.Set;
import java.util.function.Consumer;
import org.approxifer.torchserve.core.Answer;
import org.approxifer.torchserve.core.Assignment;
import org.approxifer.torchserve.core.Backlog;
import org.approxifer.torchserve.core.Flow;
import org.approxifer.torchserve.core.Reply;
import org.approxifer.torchserve.core.Schedule;
import org.approxifer.torchserve.core.Task.Lane;
import org.approxifer.torchserve.core.verify.CompareTask.Verdict;

/**
 * Whether two predictions are the same. Equal bytes are equal; what differs is compared by a worker
 * with a tolerance, for numbers are Python's business.
 */
record Comparisons(Schedule schedule, Backlog backlog) implements Flow {
  private static final long IMPARTIAL_NANOS = 100_000_000L;

  /**
   * @param parties workers that should not compare
   * @param lane URGENT where a client waits for the verdict, else MAIN
   */
  void compare(byte[] one, byte[] other, Set<String> parties, Lane lane, Consumer<Verdict> then) {
    if (Arrays.equals(one, other)) {
      then.accept(Verdict.AGREE);
    } else {
      long until = schedule.now() + IMPARTIAL_NANOS;
      backlog.addFirst(new CompareTask(one, other, parties, until, lane, this, then));
    }
  }

  @Override
  public void answered(Assignment assignment, Answer answer, Reply reply) {
    if (reply.agree() == null) {
      again(assignment);
    } else {
      task(assignment).end(reply.agree() ? Verdict.AGREE : Verdict.DISAGREE);
    }
  }

  @Override
  public void failed(Assignment assignment, int status, String message) {
    again(assignment);
  }

  @Override
  public void late(Assignment assignment) {
    again(assignment);
  }

  private void again(Assignment assignment) {
    CompareTask task = task(assignment);
    if (task.triedBy(assignment.worker)) {
      backlog.addFirst(task);
    } else {
      task.end(Verdict.UNKNOWN);
    }
  }

  private static CompareTask task(Assignment assignment) {
    return (CompareTask) assignment.task;
  }
}
