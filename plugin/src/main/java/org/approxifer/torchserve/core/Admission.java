package org.approxifer.torchserve.core;

/** Who is let in, and what is first done for them. */
final class Admission {
  private final String name;
  private final int limit;
  private final Router router;
  private final Settlement settlement;
  private final Watchdog watchdog;

  Admission(String name, int limit, Router router, Settlement settlement, Watchdog watchdog) {
    this.name = name;
    this.limit = limit;
    this.router = router;
    this.settlement = settlement;
    this.watchdog = watchdog;
  }

  /** How many more clients may wait. */
  int capacity() {
    return Math.max(0, limit - router.live.size());
  }

  void offer(Client client) {
    router.counters.requests++;
    Query query = new Query(client, router.clock.nanos(), router.plan.policy().deadlineNanos());
    int waiting = router.live.size();
    if (watchdog.closed()) {
      settlement.refuse(query, 503, name + " is being unregistered");
    } else if (waiting >= limit) {
      String full = "the queue of %s is full: %d requests wait (jobQueueSize %d); try again";
      settlement.refuse(query, 503, String.format(full, name, waiting, limit));
    } else {
      router.live.add(query);
      router.extra.admitted();
      router.parityWork.admitted();
      admit(query);
    }
  }

  private void admit(Query query) {
    query.alone = !query.client.codable();
    Plan.Check verify = router.plan.check();
    if (query.alone || verify == Plan.Check.NONE && query.client.exactOnly()) {
      router.enqueue(Task.raw(query));
      return;
    } else if (verify == Plan.Check.VOTE) {
      router.checks.begin(query, router.plan.copies());
      return;
    } else if (verify == Plan.Check.PAIR || query.client.exactOnly()) {
      router.checks.begin(query, router.plan.policy().idempotent() ? 2 : 1);
      return;
    }
    switch (router.plan.mode()) {
      case UNCODED -> router.enqueue(Task.raw(query));
      case REPLICATED -> {
        for (int copy = 0; copy < router.plan.copies(); copy++) {
          router.enqueue(Task.raw(query));
        }
      }
      case SYSTEMATIC -> {
        if (router.plan.policy().reconstruct() || verify == Plan.Check.SCREEN) {
          router.groups.join(query);
        } else {
          router.enqueue(Task.raw(query));
        }
      }
      case CODED -> router.groups.join(query);
    }
  }
}
