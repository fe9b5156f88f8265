package org.approxifer.torchserve.core;

import java.util.Set;
import org.approxifer.torchserve.core.policy.Measures;

/** Who is let in, and what is first done for them. */
record Admission(
    String name,
    Plan plan,
    int limit,
    Schedule schedule,
    Set<Query> live,
    Line line,
    ExtraWork parityWork,
    Measures measures,
    Batches batches,
    Crowd crowd,
    Counters counters,
    Backlog backlog,
    Settlement settlement,
    Verifier verifier,
    GroupFlow groups,
    Watchdog watchdog) {

  /** How many more clients may wait. */
  int capacity() {
    return Math.max(0, limit - line.length());
  }

  /** Lets a client in, or refuses it. */
  void offer(Client client) {
    counters.add(Counters.Count.REQUESTS);
    Query query = new Query(client, schedule.now(), deadline());
    measures.load().arrived(batches.busy(), measures.trust().up());
    measures.blame().arrived();
    if (watchdog.closed()) {
      settlement.busy(query, name + " is being unregistered", Settlement.RETRY_AFTER_S);
    } else if (capacity() == 0) {
      String full = "the queue of %s is full: %d requests wait (jobQueueSize %d); try again";
      settlement.busy(query, String.format(full, name, line.length(), limit), crowd.retryAfter());
    } else if (!crowd.refused(query)) {
      live.add(query);
      line.enter(query);
      parityWork.admitted();
      query.alone = !client.codable();
      if (query.alone || !verifier.admit(query)) {
        admit(query);
      }
    }
  }

  private long deadline() {
    return plan.policy().deadline().nanos(measures.times());
  }

  private void admit(Query query) {
    boolean grouped =
        plan.mode() == Plan.Mode.CODED
            || plan.mode() == Plan.Mode.SYSTEMATIC && plan.groupsSystematic();
    if (grouped && !query.alone && !query.client().exactOnly()) {
      groups.join(query);
      return;
    }
    boolean copied = plan.mode() == Plan.Mode.REPLICATED && !query.alone;
    int copies = copied && !query.client().exactOnly() ? plan.copies() : 1;
    for (int copy = 0; copy < copies; copy++) {
      backlog.add(Task.raw(query));
    }
  }
}
