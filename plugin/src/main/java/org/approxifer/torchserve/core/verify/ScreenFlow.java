package org.approxifer.torchserve.core.verify;

import java.util.Set;
import org.approxifer.torchserve.core.Answer;
import org.approxifer.torchserve.core.Assignment;
import org.approxifer.torchserve.core.Flow;
import org.approxifer.torchserve.core.Group;
import org.approxifer.torchserve.core.Hedges;
import org.approxifer.torchserve.core.Payloads;
import org.approxifer.torchserve.core.Plan;
import org.approxifer.torchserve.core.Reply;
import org.approxifer.torchserve.core.Settlement;
import org.approxifer.torchserve.core.Task;
import org.approxifer.torchserve.core.Unusable;
import org.pytorch.serve.util.messages.RequestInput;

/** The job of a worker that tells which answers of a group do not fit to the others. */
record ScreenFlow(Plan plan, Settlement settlement, Hedges hedges, ScreenVerifier verifier)
    implements Flow {
  private static final int MAX_FAILURES = 2;
  private static final int MAX_RESENDS = 2;

  Task task(Group group) {
    return new ScreenTask(group);
  }

  @Override
  public void answered(Assignment assignment, Answer answer, Reply reply) throws Unusable {
    Group group = assignment.task.group;
    Set<Integer> wrong = reply.wrong(plan.numWorkers());
    Set<Integer> suspected = reply.suspected(group);
    if (Screen.of(group).stage == Screen.Stage.RUNNING) { // else the job was sent twice
      verifier.screened(group, wrong, suspected);
    }
  }

  @Override
  public void failed(Assignment assignment, int status, String message) {
    Group group = assignment.task.group;
    Screen screen = Screen.of(group);
    if (screen.stage != Screen.Stage.RUNNING) {
      return;
    } else if (++screen.failures < MAX_FAILURES) {
      hedges.again(assignment);
    } else {
      String requests = String.join(" ", group.requestIds());
      settlement.note(
          true,
          "the answers of requests "
              + requests
              + " could not be screened; other workers check them");
      verifier.brokenUp(group);
    }
  }

  @Override
  public void late(Assignment assignment) {
    Screen screen = Screen.of(assignment.task.group);
    if (!((ScreenTask) assignment.task).dead() && ++screen.resends <= MAX_RESENDS) {
      hedges.again(assignment);
    }
  }

  private final class ScreenTask extends Task {
    ScreenTask(Group group) {
      super(Kind.SCREEN, Lane.URGENT, group, null);
    }

    @Override
    protected Flow flow() {
      return ScreenFlow.this;
    }

    @Override
    protected boolean dead() {
      Screen screen = Screen.of(group);
      return screen.stage != Screen.Stage.RUNNING || !screen.wanted();
    }

    @Override
    protected RequestInput payload(Payloads payloads) {
      return payloads
          .job(kind)
          .size(group)
          .available(group.predictions)
          .requests(group.requestIds())
          .signed();
    }

    @Override
    protected Task copy() {
      return new ScreenTask(group);
    }
  }
}
