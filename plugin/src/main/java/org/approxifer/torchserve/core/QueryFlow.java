package org.approxifer.torchserve.core;

import com.google.gson.JsonObject;

/**
 * The life of a query that is sent to workers as it is.
 *
 * <pre>
 *  raw ─▶ answered ─▶ settle            late ─▶ hedge to one more worker, first answer settles
 *      └▶ died, unusable ─▶ again, alone, elsewhere; twice died ─▶ 500, never again
 * </pre>
 */
final class QueryFlow implements Flow {
  /** A query in flight at this many worker deaths is not sent again: it may be what kills them. */
  private static final int MOST_DEATHS = 2;

  private static final int MOST_AT_ONCE = 3;
  private static final long AVOID_NANOS = 250_000_000L;

  private final Router router;
  private final Settlement settlement;

  QueryFlow(Router router, Settlement settlement) {
    this.router = router;
    this.settlement = settlement;
  }

  @Override
  public void answered(Assignment assignment, Answer answer, Reply reply) {
    Query query = assignment.task.query;
    JsonObject error = reply.object("error");
    String erasure = reply.text("erasure");
    if (error != null) {
      if (query.check != null) {
        query.check.finished = true;
      }
      settlement.error(query, error.get("status").getAsInt(), error.get("message").getAsString());
      router.screens.lost(query);
    } else if (!reply.has("answer")) {
      erased(assignment, "malformed reply: it has no answer");
    } else if (erasure != null && query.erasures == 0 && router.plan.policy().idempotent()) {
      erased(assignment, erasure);
    } else {
      Answer own = answer.withBody(reply.section("answer"));
      if (query.check != null) {
        byte[] compared = reply.section(reply.has("prediction") ? "prediction" : "answer");
        Outcome outcome = outcome(assignment.task);
        boolean screens = erasure == null && reply.has("prediction");
        Check.Vote vote = new Check.Vote(assignment.worker, own, compared, outcome);
        router.checks.voted(query, vote, screens ? compared : null);
        return;
      }
      settlement.answer(query, own, outcome(assignment.task));
      if (query.group != null && erasure == null && reply.has("prediction")) {
        router.groups.predicted(query.group, query.index, reply.section("prediction"));
      }
    }
  }

  private Outcome outcome(Task task) {
    boolean original =
        task.query.handOuts == 1
            || router.plan.mode() == Plan.Mode.REPLICATED
            || task.kind == Task.Kind.RAW && task.query.deaths == 0;
    return original ? Outcome.EXACT : Outcome.HEDGED;
  }

  @Override
  public void late(Assignment assignment) {
    Query query = assignment.task.query;
    query.late |= !query.settled;
    if (query.group != null) {
      router.groups.late(query);
    }
    hedge(assignment);
  }

  /** Sends a late query to one more worker, if the policy and its budget allow. */
  private void hedge(Assignment late) {
    Query query = late.task.query;
    if (late.done
        || query.done()
        || !router.plan.policy().hedge()
        || !router.plan.policy().idempotent()
        || query.queued > 0
        || query.outstanding.size() >= mostAtOnce()) {
      return;
    }
    if (!wouldDelayOthers(late) && mayCostExtra(query)) {
      router.counters.hedges++;
      router.enqueueFirst(Task.hedge(query));
    } else {
      router.counters.hedgesDenied++;
      router.after(router.lateness.nanos() / 2, () -> hedge(late));
    }
  }

  /**
   * True if a hedge would go before queries that no worker has begun, and nothing says that the
   * late job's worker is to blame. A straggler is overtaken by a job that was begun later and took
   * half as long; where all are slow, sending work twice only takes places from clients who wait.
   */
  private boolean wouldDelayOthers(Assignment late) {
    return router.backlog.someQueryWaits()
        && !router.lateness.overtaken(late.handedNanos, router.clock.nanos());
  }

  /**
   * True if one more copy is within the budget; or if half of the client's time is gone and nobody
   * waits for a worker: to spare the work would help no one then, and could cost this client the
   * answer. Such copies are owed to the budget.
   */
  boolean mayCostExtra(Query query) {
    long age = router.clock.nanos() - query.admittedNanos;
    return router.extra.tryTake()
        || 2 * age >= query.deadlineNanos - query.admittedNanos
            && router.backlog.waiting() == 0
            && router.extra.tryTakeOnCredit();
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
      router.groups.breakUp(query.group);
    }
    if (query.settled) {
      router.checks.lost(query);
    } else if (!gaveUp(query)) {
      sendAgain(query, assignment.task.again(null, 0));
    }
  }

  /** Answers 500 for a query that may be what kills workers, or that must not run twice. */
  private boolean gaveUp(Query query) {
    if (query.deaths >= MOST_DEATHS) {
      settlement.error(
          query,
          500,
          "Worker died. The request was in flight at "
              + query.deaths
              + " worker deaths and is not sent again");
    } else if (query.deaths > 0 && !router.plan.policy().idempotent()) {
      settlement.error(
          query,
          500,
          "Worker died. The request is not sent again (handler.approxifer.policy.idempotent)");
    }
    return query.settled;
  }

  /** The members of a group that cannot be coded: each to one worker, by itself. */
  void goAlone(Group group) {
    router.groups.breakUp(group);
    for (Query query : group.waiting()) {
      query.alone = true;
      checkAlone(query);
      if (!gaveUp(query)) {
        sendAgain(query, Task.raw(query));
      }
    }
    group.release();
  }

  /** A query that was to be decoded from answers of which the wrong ones are left out. */
  void checkAlone(Query query) {
    if (query.check == null && router.plan.check() == Plan.Check.LOCATE) {
      query.check = new Check(router.plan.agree());
    }
  }

  @Override
  public void failed(Assignment assignment, int status, String message) {
    settlement.error(assignment.task.query, status, message);
    router.screens.lost(assignment.task.query);
  }

  @Override
  public void erased(Assignment assignment, String reason) {
    noteErasure(assignment, reason);
    Query query = assignment.task.query;
    if (query.done()) {
      return;
    }
    query.erasures++;
    query.erasedBy.add(assignment.worker);
    query.avoidUntil = router.clock.nanos() + Math.max(AVOID_NANOS, 2 * router.lateness.nanos());
    if (query.settled) {
      router.checks.lost(query);
    } else if (query.erasures > mostErasures() || !router.plan.policy().idempotent()) {
      settlement.error(query, 503, "no usable answer: " + reason);
      router.screens.lost(query);
    } else {
      sendAgain(query, again(assignment));
    }
  }

  /** A worker that lies may do so with what is no answer at all. */
  private int mostErasures() {
    return router.plan.stragglers() + router.plan.byzantine();
  }

  /**
   * Counts an answer that cannot be used against the worker that gave it. A NaN may be the client's
   * own doing; a probe tells.
   */
  void noteErasure(Assignment assignment, String reason) {
    router.counters.erasures++;
    router.ledger.of(assignment.worker).erased(router.clock.nanos());
    router.probing.bringForward(assignment.worker);
    settlement.note(
        true,
        "worker "
            + assignment.worker
            + " gave no usable answer to a "
            + assignment.described()
            + ": "
            + reason);
  }

  @Override
  public void returned(Task task) {
    task.query.handOuts--;
    if (!router.plan.policy().idempotent()) {
      // TorchServe puts back what the worker was at work on, too: it may have run.
      settlement.error(
          task.query,
          500,
          "Worker left. The request is not sent again (handler.approxifer.policy.idempotent)");
    } else if (!task.query.done()) {
      sendAgain(task.query, task);
    }
  }

  private void sendAgain(Query query, Task task) {
    // A copy that is late already may never come: a frozen worker holds it.
    if (query.queued == 0 && query.stuck() && query.outstanding.size() < mostAtOnce()) {
      router.enqueueFirst(task);
    }
  }

  private int mostAtOnce() {
    return Math.max(MOST_AT_ONCE, router.plan.stragglers() + 1);
  }

  Task again(Assignment assignment) {
    return assignment.task.again(assignment.worker, router.clock.nanos() + AVOID_NANOS);
  }
}
