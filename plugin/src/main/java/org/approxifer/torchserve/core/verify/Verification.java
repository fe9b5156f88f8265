package org.approxifer.torchserve.core.verify;

import org.approxifer.torchserve.core.Backlog;
import org.approxifer.torchserve.core.Counters;
import org.approxifer.torchserve.core.Decoding;
import org.approxifer.torchserve.core.Hedges;
import org.approxifer.torchserve.core.Lateness;
import org.approxifer.torchserve.core.Ledger;
import org.approxifer.torchserve.core.NoVerifier;
import org.approxifer.torchserve.core.Plan;
import org.approxifer.torchserve.core.Probation;
import org.approxifer.torchserve.core.Schedule;
import org.approxifer.torchserve.core.Settlement;
import org.approxifer.torchserve.core.Verifier;

/** Makes what verifies the answers of one model, as its plan says. */
public final class Verification {
  private final Probes probes;
  private final Verifier verifier;

  /** Takes what the router and its verification both work on. */
  public Verification(
      Plan plan,
      Schedule schedule,
      Lateness lateness,
      Counters counters,
      Backlog backlog,
      Ledger ledger,
      Settlement settlement,
      Hedges hedges,
      Decoding decoding) {
    Comparisons comparisons = new Comparisons(schedule, backlog);
    Quarantine quarantine = new Quarantine(plan, schedule, ledger, counters, settlement);
    probes = new Probes(plan, schedule, ledger, backlog, comparisons, quarantine);
    Voting voting =
        new Voting(plan, ledger, counters, backlog, settlement, comparisons, quarantine);
    verifier =
        switch (plan.check()) {
          case NONE -> new NoVerifier();
          case PAIR, VOTE -> new VoteVerifier(plan, backlog, voting);
          case LOCATE -> new LocateVerifier(plan, backlog, voting, probes);
          case SCREEN ->
              new ScreenVerifier(
                  plan,
                  schedule,
                  lateness,
                  counters,
                  backlog,
                  ledger,
                  settlement,
                  hedges,
                  decoding,
                  voting,
                  probes);
        };
  }

  public Verifier verifier() {
    return verifier;
  }

  public Probation probation() {
    return probes;
  }
}
