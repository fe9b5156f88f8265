package org.approxifer.torchserve.core;

import java.util.function.Consumer;

/**
 * Who is kept from clients. A worker confirmed wrong m of its last n times gets no client work, is
 * restarted, probed, and comes back after p clean probes; one that is wrong after restarts too is
 * kept out until someone readmits it. Suspicion alone never does this.
 */
final class Quarantine {
  private static final int MOST_RESTARTS = 3;
  private static final long RESTART_NANOS = 10_000_000_000L;

  private final Router router;
  private final Settlement settlement;
  private Consumer<String> restart = worker -> {};

  Quarantine(Router router, Settlement settlement) {
    this.router = router;
    this.settlement = settlement;
  }

  /** Sets what restarts a worker by id; it is called outside the router's lock. */
  void onRestart(Consumer<String> restart) {
    this.restart = restart;
  }

  /** A worker's answer was confirmed right or wrong by others. */
  void judged(String worker, boolean right) {
    Ledger.Entry entry = router.ledger.of(worker);
    entry.judged(right, router.plan.policy().quarantine().of());
    if (!right && entry.recentlyWrong() >= router.plan.policy().quarantine().wrong()) {
      enter(worker, "it was wrong " + entry.recentlyWrong() + " times of its last answers");
    }
  }

  /** A worker answered a known query right or wrong. */
  void probed(String worker, boolean right) {
    Ledger.Entry entry = router.ledger.of(worker);
    if (!entry.quarantined) {
      judged(worker, right);
    } else if (!right) {
      entry.cleanProbes = 0;
      if (!entry.keptOut) {
        restartAgain(worker, entry);
      }
    } else if (++entry.cleanProbes >= router.plan.policy().quarantine().clean() && !entry.byHand) {
      leave(worker, "it answered " + entry.cleanProbes + " probes right");
    }
  }

  /** Keeps a worker out by hand, until {@link #leave}; false if too many are out. */
  boolean byHand(String worker) {
    Ledger.Entry entry = router.ledger.of(worker);
    entry.byHand = entry.quarantined || mayEnter();
    enter(worker, "an operator asked for it");
    return entry.quarantined;
  }

  private boolean mayEnter() {
    return 2 * (router.ledger.quarantined() + 1) <= router.ledger.size();
  }

  private void enter(String worker, String why) {
    Ledger.Entry entry = router.ledger.of(worker);
    if (entry.quarantined) {
      return;
    }
    if (!mayEnter()) {
      settlement.note(
          true,
          "worker " + worker + " should be quarantined (" + why + "), but half of the workers are");
      return;
    }
    entry.quarantined = true;
    entry.stays++;
    entry.restarts = 0;
    router.counters.quarantines++;
    settlement.note(true, "worker " + worker + " is quarantined: " + why);
    restartAgain(worker, entry);
  }

  private void restartAgain(String worker, Ledger.Entry entry) {
    if (entry.restarts++ >= MOST_RESTARTS) {
      entry.keptOut = true;
      settlement.note(
          true,
          "worker "
              + worker
              + " is kept out: still wrong after "
              + MOST_RESTARTS
              + " restarts; check its device, then `approxifer readmit`");
      return;
    }
    settlement.later(() -> restart.accept(worker));
    if (!router.probes()) {
      long stay = entry.stays;
      router.after(
          RESTART_NANOS,
          () -> {
            // Another stay has a timer of its own.
            if (entry.stays == stay && !entry.byHand) {
              leave(worker, "it was restarted, and no probe can tell more");
            }
          });
    }
  }

  /** Gives a worker client work again. */
  void leave(String worker, String why) {
    Ledger.Entry entry = router.ledger.of(worker);
    if (entry.quarantined) {
      entry.readmit();
      settlement.note(true, "worker " + worker + " is readmitted: " + why);
    }
  }
}
