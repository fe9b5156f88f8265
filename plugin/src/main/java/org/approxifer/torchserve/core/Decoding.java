package org.approxifer.torchserve.core;

import java.util.List;

/** Has members of systematic groups decoded from the answers of the others. */
public record Decoding(Plan plan, Backlog backlog) {

  /** The prediction of a member or a parity came. */
  void predicted(Group group, int index, byte[] prediction) {
    if (!group.settled() && !group.broken) {
      group.predictions.put(index, prediction);
      reconstruct(group);
    }
  }

  /** Decodes the late members as soon as what came suffices. */
  public void reconstruct(Group group) {
    if (plan.mode() == Plan.Mode.SYSTEMATIC
        && plan.policy().reconstruct()
        && group.closed
        && !group.broken
        && group.available() >= group.verification.quorum(plan)) {
      decode(group, group.waiting().stream().filter(query -> query.late).toList());
    }
  }

  /** Decodes these members now. */
  public void decode(Group group, List<Query> queries) {
    boolean wanted = false;
    for (Query query : queries) {
      if (!query.settled && !query.decoding) {
        query.decoding = true;
        wanted = true;
      }
    }
    if (wanted && !group.predictions.isEmpty()) {
      backlog.add(Task.decode(group));
    }
  }
}
