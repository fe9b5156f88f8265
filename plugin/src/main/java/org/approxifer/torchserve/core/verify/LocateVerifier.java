package org.approxifer.torchserve.core.verify;

import org.approxifer.torchserve.core.Backlog;
import org.approxifer.torchserve.core.Group;
import org.approxifer.torchserve.core.Plan;
import org.approxifer.torchserve.core.Query;
import org.approxifer.torchserve.core.Reply;
import org.approxifer.torchserve.core.Task;
import org.approxifer.torchserve.core.Unusable;

/**
 * Leaves it to the decode job of a fully coded group to find what is wrong, and suspects who gave
 * it. Queries that are sent alone are compared as by {@link VoteVerifier}.
 */
final class LocateVerifier extends VoteVerifier {
  private static final Group.Verification LOCATED =
      new Group.Verification() {
        @Override
        public boolean distinct(Task.Kind kind) {
          return kind == Task.Kind.CODED;
        }
      };

  private final Plan plan;
  private final Probes probes;

  LocateVerifier(Plan plan, Backlog backlog, Voting voting, Probes probes) {
    super(plan, backlog, voting);
    this.plan = plan;
    this.probes = probes;
  }

  @Override
  boolean votes(Query query) {
    return query.client().exactOnly();
  }

  @Override
  public void joined(Query query) {
    query.group.verification = LOCATED;
  }

  @Override
  public void alone(Query query) {
    if (!(query.verification instanceof Votes)) {
      verify(query);
    }
  }

  @Override
  public void located(Group group, Reply reply) throws Unusable {
    for (int index : reply.wrong(plan.numWorkers())) {
      if (group.gave.containsKey(index)) {
        probes.suspect(group.gave.get(index));
      }
    }
  }
}
