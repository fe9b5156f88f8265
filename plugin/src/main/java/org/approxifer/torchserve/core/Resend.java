package org.approxifer.torchserve.core;

/** What becomes of work that a worker did not do: hedges, deaths, erasures, returned jobs. */
final class Resend {
  private static final int MOST_AT_ONCE = 3;
  private static final long AVOID_NANOS = 250_000_000L;

  private final Router router;
  private final Settlement settlement;

  Resend(Router router, Settlement settlement) {
    this.router = router;
    this.settlement = settlement;
  }

  /** A raw job is late: sends the query to one more worker, if the policy and its budget allow. */
  void hedge(Assignment late) {
    Query query = late.task.query;
    if (late.done
        || query.settled
        || !router.plan.hedge
        || !router.plan.idempotent
        || query.queued > 0
        || query.outstanding.size() >= MOST_AT_ONCE) {
      return;
    }
    if (router.extra.tryTake()) {
      router.counters.hedges++;
      router.enqueueFirst(Task.hedge(query));
    } else {
      router.counters.hedgesDenied++;
      router.after(router.lateness.nanos() / 2, () -> hedge(late));
    }
  }

  /** The worker died with the job in its hands. */
  void died(Assignment assignment) {
    Task task = assignment.task;
    if (task.kind.ofOneQuery()) {
      queryDied(task.query, task);
      return;
    }
    switch (task.kind) {
      case PARITY -> task.group.broken = true;
      case CODED -> {
        if (++task.deaths < Router.MOST_DEATHS) {
          router.enqueueFirst(again(assignment));
        } else {
          task.group.lost.add(task.coded);
        }
      }
      default -> {
        // The job held its members' own requests, and one of them may be what kills workers.
        (task.kind == Task.Kind.ENCODE ? task.group.waiting() : task.group.toDecode())
            .forEach(query -> query.deaths++);
        goAlone(task.group);
      }
    }
  }

  private void queryDied(Query query, Task task) {
    if (query.settled) {
      return;
    }
    query.deaths++;
    query.alone = true;
    if (query.group != null) {
      query.group.broken = true;
    }
    if (query.deaths >= Router.MOST_DEATHS) {
      settlement.error(
          query, 500,
          "Worker died. The request was in flight at " + query.deaths
              + " worker deaths and is not sent again");
    } else if (!router.plan.idempotent) {
      settlement.error(
          query, 500,
          "Worker died. The request is not sent again (handler.approxifer.policy.idempotent)");
    } else {
      sendAgain(query, task.again(null, 0));
    }
  }

  /** The members of a group that cannot be coded: each to one worker, by itself. */
  void goAlone(Group group) {
    group.broken = true;
    for (Query query : group.waiting()) {
      if (query.deaths >= Router.MOST_DEATHS) {
        settlement.error(
            query, 500,
            "Worker died. The request was in flight at " + query.deaths
                + " worker deaths and is not sent again");
      } else {
        query.alone = true;
        sendAgain(query, Task.raw(query));
      }
    }
    group.release();
  }

  /** The worker's answer cannot be used. */
  void erased(Assignment assignment, String reason) {
    router.counters.erasures++;
    router.ledger.of(assignment.worker).erasures++;
    Task task = assignment.task;
    if (!task.kind.ofOneQuery()) {
      failed(assignment, 503, reason);
      return;
    }
    Query query = task.query;
    if (query.settled) {
      return;
    }
    if (++query.erasures >= Router.MOST_DEATHS || !router.plan.idempotent) {
      settlement.error(query, 503, "no usable answer: " + reason);
    } else {
      sendAgain(query, again(assignment));
    }
  }

  /** An error of the job as a whole, from the worker or from TorchServe. */
  void failed(Assignment assignment, int status, String message) {
    Task task = assignment.task;
    if (task.kind.ofOneQuery()) {
      settlement.error(task.query, status, message);
      return;
    }
    switch (task.kind) {
      case PARITY -> task.group.lost.add(task.coded);
      case CODED -> {
        task.group.lost.add(task.coded);
        if (task.group.hopeless() && !task.group.settled()) {
          goAlone(task.group);
        }
      }
      default -> {
        if (router.plan.mode == Plan.Mode.CODED) {
          goAlone(task.group);
        } else {
          // A systematic decode failed: hedges go on, and the next prediction tries again.
          task.group.waiting().forEach(query -> query.decoding = false);
          task.group.broken = true;
        }
      }
    }
  }

  /** Nobody began the job: it goes back to the head of its lane, and no harm is noted. */
  void returned(Assignment assignment) {
    Task task = assignment.task;
    if (task.kind.ofOneQuery()) {
      Query query = task.query;
      query.handOuts--;
      if (!query.settled) {
        sendAgain(query, task);
      }
    } else if (!task.dead()) {
      router.enqueueFirst(task);
    }
  }

  private void sendAgain(Query query, Task task) {
    if (query.queued == 0 && query.outstanding.isEmpty()) {
      router.enqueueFirst(task);
    }
  }

  Task again(Assignment assignment) {
    return assignment.task.again(assignment.worker, router.clock.nanos() + AVOID_NANOS);
  }
}
