package org.approxifer.torchserve.core;

/**
 * The life of a query that is sent to workers as it is.
 *
 * <pre>
 *  raw ─▶ answered ─▶ settle            late ─▶ hedge to one more worker, first answer settles
 *      └▶ died, unusable ─▶ again, alone, elsewhere; twice died ─▶ 500, never again
 * </pre>
 */
record QueryFlow(
    Plan plan,
    Schedule schedule,
    Lateness lateness,
    Backlog backlog,
    Settlement settlement,
    Hedges hedges,
    Decoding decoding,
    Verifier verifier,
    Faults faults)
    implements Flow {
  /** A query in flight at this many worker deaths is not sent again: it may be what kills them. */
  private static final int MAX_DEATHS = 2;

  private static final long AVOID_NANOS = 250_000_000L;
  private static final String ONCE = " (handler.approxifer.policy.idempotent)";

  @Override
  public void answered(Assignment assignment, Answer answer, Reply reply) throws Unusable {
    Query query = assignment.task.query;
    boolean sound = reply.erasure() == null;
    if (!sound && query.erasures == 0 && plan.policy().idempotent()) {
      throw new Unusable(reply.erasure());
    }
    Answer own = answer.withBody(reply.need("answer"));
    byte[] prediction = reply.section("prediction");
    Outcome outcome = outcome(assignment.task);
    if (verifier.answered(
        query, new Computation(assignment.worker, own, prediction, sound, outcome))) {
      return;
    }
    query.copyAnswered |= settlement.answer(query, own, outcome) && assignment.task.instead != null;
    if (query.group != null && plan.mode() == Plan.Mode.SYSTEMATIC && sound && prediction != null) {
      decoding.predicted(query.group, query.index, prediction);
    }
  }

  private Outcome outcome(Task task) {
    boolean original =
        task.query.handOuts == 1
            || plan.mode() == Plan.Mode.REPLICATED
            || task.kind == Task.Kind.RAW && task.query.deaths == 0;
    return original ? Outcome.EXACT : Outcome.HEDGED;
  }

  @Override
  public void late(Assignment assignment) {
    Query query = assignment.task.query;
    query.late |= !query.settled;
    if (query.group != null) {
      verifier.late(query.group, query.index);
      decoding.reconstruct(query.group);
    }
    hedges.hedge(assignment);
  }

  @Override
  public void died(Assignment assignment) {
    Query query = assignment.task.query;
    if (query.done()) {
      return;
    }
    query.deaths++;
    query.alone = true;
    if (query.group != null) {
      breakUp(query.group);
    }
    if (query.settled) {
      verifier.lost(query);
    } else {
      sendAgain(query, Task.hedge(query));
    }
  }

  /** A group cannot be coded any more. */
  void breakUp(Group group) {
    group.broken = true;
    verifier.brokenUp(group);
  }

  /** The members of a group that cannot be coded: each to one worker, by itself. */
  void goAlone(Group group) {
    breakUp(group);
    for (Query query : group.waiting()) {
      query.alone = true;
      verifier.alone(query);
      sendAgain(query, Task.raw(query));
    }
    group.release();
  }

  /** A member of a coded group that cannot be coded with the others. */
  void goSolo(Query query) {
    query.solo = true;
    verifier.alone(query);
    backlog.addFirst(Task.raw(query));
  }

  @Override
  public void failed(Assignment assignment, int status, String message) {
    Query query = assignment.task.query;
    if (query.settled && !query.abandoned) {
      faults.toBlame(assignment.worker);
    } else if (status >= 500 && !query.settled && faults.mayComeRight(assignment)) {
      return; // another worker has it, or gets it
    }
    settlement.error(query, status, message);
    verifier.ended(query);
  }

  @Override
  public void erased(Assignment assignment, String reason) {
    Query query = assignment.task.query;
    if (query.done()) {
      return;
    }
    long avoid = Math.max(AVOID_NANOS, 2 * lateness.nanos());
    query.erasedBy(assignment.worker, schedule.now() + avoid);
    // A worker that lies may do so with what is no answer at all.
    boolean tooOften = query.erasures > plan.stragglers() + plan.byzantine();
    if (query.settled) {
      verifier.lost(query);
    } else if (tooOften || !plan.policy().idempotent()) {
      settlement.unavailable(query, "no usable answer: " + reason);
      verifier.ended(query);
    } else {
      sendAgain(query, hedges.another(assignment));
    }
  }

  /** Nobody began the job: it goes back to the head of its lane, and no harm is noted. */
  void returned(Task task) {
    task.query.handOuts--;
    if (!plan.policy().idempotent()) {
      // TorchServe puts back what the worker was at work on, too: it may have run.
      settlement.error(task.query, 500, "Worker left. The request is not sent again" + ONCE);
    } else if (!task.query.done()) {
      sendAgain(task.query, task);
    }
  }

  /** Sends a query again, unless it may be what kills workers, or must not run twice. */
  void sendAgain(Query query, Task task) {
    if (query.deaths >= MAX_DEATHS) {
      String deaths = "Worker died. The request was in flight at " + query.deaths;
      settlement.error(query, 500, deaths + " worker deaths and is not sent again");
    } else if (query.deaths > 0 && !plan.policy().idempotent()) {
      settlement.error(query, 500, "Worker died. The request is not sent again" + ONCE);
    } else if (query.queued == 0 && query.stuck() && hedges.mayHaveOneMore(query)) {
      // A copy that is late already may never come: a frozen worker holds it.
      backlog.addFirst(task);
    }
  }
}
