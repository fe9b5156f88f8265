package org.approxifer.torchserve.core.verify;

import java.util.Collections;
import java.util.Comparator;
import java.util.Set;
import java.util.function.Consumer;
import org.approxifer.torchserve.core.ByHand;
import org.approxifer.torchserve.core.Counters;
import org.approxifer.torchserve.core.Ledger;
import org.approxifer.torchserve.core.Plan;
import org.approxifer.torchserve.core.Schedule;
import org.approxifer.torchserve.core.Settlement;

/**
 * Who is kept from clients. A worker confirmed wrong m of its last n times gets no client work, is
 * restarted, probed, and comes back after p clean probes; one that is wrong after restarts too is
 * kept out until someone readmits it. Suspicion alone never does this.
 */
final class Quarantine {
  private static final int MAX_RESTARTS = 3;
  private static final long RESTART_NANOS = 10_000_000_000L;

  /** Last, who was wrong after restarts too; before them, whom an operator wants to stay. */
  private static final Comparator<Ledger.Entry> LESS_BAD =
      Comparator.<Ledger.Entry, Boolean>comparing(Ledger.Entry::keptOut)
          .thenComparing(entry -> entry.byHand)
          .thenComparing(entry -> -entry.cleanProbes)
          .thenComparing(Ledger.Entry::recentlyWrong)
          .thenComparing(entry -> entry.stays);

  private final Plan.Quarantine limits;
  private final Schedule schedule;
  private final Ledger ledger;
  private final Counters counters;
  private final Settlement settlement;
  private Consumer<String> restart = worker -> {};
  private boolean probed;

  Quarantine(
      Plan plan, Schedule schedule, Ledger ledger, Counters counters, Settlement settlement) {
    limits = plan.policy().quarantine();
    this.schedule = schedule;
    this.ledger = ledger;
    this.counters = counters;
    this.settlement = settlement;
  }

  /** Sets what restarts a worker by id; it is called outside the router's lock. */
  void onRestart(Consumer<String> restart) {
    this.restart = restart;
  }

  /** Workers are probed, so that it is known when a quarantined one answers right. */
  void workersAreProbed() {
    probed = true;
  }

  /** Two computations confirmed that a worker's answer was right, or wrong. */
  void confirmed(String worker, boolean right) {
    Ledger.Entry entry = ledger.of(worker);
    entry.confirmed(right, limits.of());
    if (!right && entry.recentlyWrong() >= limits.wrong()) {
      enter(worker, "it was wrong " + entry.recentlyWrong() + " times of its last answers");
    }
  }

  /** A worker answered a known query right or wrong. */
  void probed(String worker, boolean right) {
    Ledger.Entry entry = ledger.of(worker);
    if (!entry.quarantined()) {
      confirmed(worker, right);
    } else if (!right) {
      entry.cleanProbes = 0;
      if (!entry.keptOut()) {
        restartAgain(worker, entry);
      }
    } else if (++entry.cleanProbes >= limits.clean() && !entry.byHand) {
      leave(worker, "it answered " + entry.cleanProbes + " probes right");
    }
  }

  ByHand enterByHand(String worker) {
    if (!ledger.has(worker)) {
      return ByHand.UNKNOWN;
    }
    Ledger.Entry entry = ledger.of(worker);
    entry.byHand = entry.quarantined() || ledger.mayQuarantine();
    enter(worker, "an operator asked for it");
    return entry.quarantined() ? ByHand.DONE : ByHand.REFUSED;
  }

  ByHand leaveByHand(String worker) {
    if (!ledger.has(worker)) {
      return ByHand.UNKNOWN;
    }
    leave(worker, "an operator asked for it");
    return ByHand.DONE;
  }

  /** Readmits the least bad of the workers if nobody else is left, as after scaling down. */
  void neverAll() {
    Set<String> quarantined = ledger.quarantined();
    if (!quarantined.isEmpty() && quarantined.size() == ledger.size()) {
      String least = Collections.min(quarantined, Comparator.comparing(ledger::of, LESS_BAD));
      leave(least, "all workers are in quarantine, and it is the least bad");
    }
  }

  private void enter(String worker, String why) {
    Ledger.Entry entry = ledger.of(worker);
    if (entry.quarantined()) {
      return;
    }
    if (!ledger.mayQuarantine()) {
      note(worker, "should be quarantined (" + why + "), but half of the workers are");
      return;
    }
    ledger.quarantine(worker, true);
    entry.stays++;
    entry.restarts = 0;
    counters.add(Counters.Count.QUARANTINES);
    note(worker, "is quarantined: " + why);
    restartAgain(worker, entry);
  }

  private void restartAgain(String worker, Ledger.Entry entry) {
    if (entry.restarts++ >= MAX_RESTARTS) {
      entry.keepOut();
      String after = "is kept out: still wrong after " + MAX_RESTARTS + " restarts";
      note(worker, after + "; check its device, then `approxifer readmit`");
      return;
    }
    settlement.later(() -> restart.accept(worker));
    if (!probed) {
      long stay = entry.stays;
      schedule.after(RESTART_NANOS, () -> endStay(worker, entry, stay));
    }
  }

  private void endStay(String worker, Ledger.Entry entry, long stay) {
    // Another stay has a timer of its own.
    if (entry.stays == stay && !entry.byHand) {
      leave(worker, "it was restarted, and no probe can tell more");
    }
  }

  private void leave(String worker, String why) {
    Ledger.Entry entry = ledger.of(worker);
    if (entry.quarantined()) {
      ledger.quarantine(worker, false);
      entry.readmitted();
      note(worker, "is readmitted: " + why);
    }
  }

  private void note(String worker, String what) {
    settlement.note(true, "worker " + worker + " " + what);
  }
}
