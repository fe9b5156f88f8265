package org.approxifer.torchserve.core.verify;

import java.util.List;
import java.util.Set;
import org.approxifer.torchserve.core.Backlog;
import org.approxifer.torchserve.core.Computation;
import org.approxifer.torchserve.core.Counters;
import org.approxifer.torchserve.core.Ledger;
import org.approxifer.torchserve.core.Plan;
import org.approxifer.torchserve.core.Query;
import org.approxifer.torchserve.core.Settlement;
import org.approxifer.torchserve.core.Task;
import org.approxifer.torchserve.core.verify.CompareTask.Verdict;

/**
 * Has a query computed by more workers until enough answers are the same, and compares them.
 *
 * <p>Whoever a comparison found unlike those that settled the query is confirmed wrong.
 */
final class Voting {
  /** Header of an answer: true, screened, or false where nothing has checked it (yet). */
  static final String VERIFIED = "x-approxifer-verified";

  private static final int MIN_VOTES = 3;

  /** Comparisons for which no client waits; more than this at once are not made. */
  private static final int MAX_BEHIND = 32;

  private final Plan plan;
  private final Ledger ledger;
  private final Counters counters;
  private final Backlog backlog;
  private final Settlement settlement;
  private final Comparisons comparisons;
  private final Quarantine quarantine;
  private final int maxVotes;
  private int behind;

  Voting(
      Plan plan,
      Ledger ledger,
      Counters counters,
      Backlog backlog,
      Settlement settlement,
      Comparisons comparisons,
      Quarantine quarantine) {
    this.plan = plan;
    this.ledger = ledger;
    this.counters = counters;
    this.backlog = backlog;
    this.settlement = settlement;
    this.comparisons = comparisons;
    this.quarantine = quarantine;
    boolean vote = plan.check() == Plan.Check.VOTE;
    maxVotes = vote ? plan.copies() + plan.agree() : Math.max(MIN_VOTES, plan.byzantine() + 2);
  }

  /** Gives a client an answer, with what is known of it. */
  void settle(Query query, Computation vote, String verified) {
    settlement.answer(query, vote.answer().with(VERIFIED, verified), vote.outcome());
  }

  /**
   * Has the query, which has been answered once at least, computed by others until they agree.
   *
   * @param suspected whether something speaks against the answer; without, it is given unchecked
   *     where no other worker may compute the query
   */
  void askOthers(Query query, boolean suspected) {
    Votes votes = votes(query);
    boolean only = !suspected && plan.check() != Plan.Check.VOTE && votes.all.size() == 1;
    if (!votes.finished && only && !mayAsk(query)) {
      votes.finished = true;
      settle(query, votes.all.get(0), "false");
    }
    advance(query);
  }

  private boolean mayAsk(Query query) {
    return plan.policy().idempotent() && ledger.another(votes(query)::answeredBy);
  }

  /** Compares the next two votes that have to be; one comparison at a time. */
  void advance(Query query) {
    Votes votes = votes(query);
    if (votes.finished || votes.comparing || query.abandoned) {
      return;
    }
    Computation[] pair = votes.next();
    List<Computation> winners = votes.winners();
    if (winners != null) {
      agreed(query, winners);
    } else if (pair == null) {
      undecided(query);
    } else {
      votes.comparing = true;
      comparisons.compare(
          pair[0].compared(),
          pair[1].compared(),
          Set.of(pair[0].worker(), pair[1].worker()),
          Task.Lane.URGENT,
          verdict -> {
            votes.comparing = false;
            votes.compared(pair, verdict);
            advance(query);
          });
    }
  }

  private void agreed(Query query, List<Computation> winners) {
    Votes votes = votes(query);
    votes.finished = true;
    votes.winner = winners.get(0);
    settle(query, votes.winner, "true");
    for (Computation vote : votes.all) {
      if (winners.contains(vote)) {
        quarantine.confirmed(vote.worker(), true);
      } else if (votes.shownWrong(vote, winners)) {
        wrong(query, vote);
      } else {
        compareWithWinner(query, vote); // it came late, or a comparison failed
      }
    }
  }

  /** Compares an answer with the one that settled its query; a client's work comes first. */
  void compareWithWinner(Query query, Computation vote) {
    Computation winner = votes(query).winner;
    if (winner == null || !Votes.sameBytes(winner, vote) && behind >= MAX_BEHIND) {
      return;
    }
    behind++;
    comparisons.compare(
        winner.compared(),
        vote.compared(),
        Set.of(winner.worker(), vote.worker()),
        Task.Lane.MAIN,
        verdict -> {
          behind--;
          if (verdict == Verdict.AGREE) {
            quarantine.confirmed(vote.worker(), true);
          } else if (verdict == Verdict.DISAGREE) {
            wrong(query, vote);
          }
        });
  }

  private void wrong(Query query, Computation vote) {
    settlement.note(
        true,
        "worker " + vote.worker() + " answered request " + query.requestId + " unlike others");
    quarantine.confirmed(vote.worker(), false);
  }

  /** All votes that came have been compared, and too few of them are the same. */
  private void undecided(Query query) {
    Votes votes = votes(query);
    if (votes.split() && !votes.disputed) {
      votes.disputed = true;
      counters.add(Counters.Count.DISAGREEMENTS);
      votes.all.forEach(vote -> ledger.of(vote.worker()).suspicions++);
    }
    // A late copy may never come; but the second of a pair is hedged, within its budget.
    boolean second = plan.check() == Plan.Check.PAIR && votes.all.size() == 1;
    boolean another = mayAsk(query);
    if (another && query.queued > 0 || !(second ? query.outstanding.isEmpty() : query.stuck())) {
      return; // more votes are on their way
    }
    if (another && votes.all.size() < maxVotes) {
      backlog.addFirst(Task.hedge(query));
      return;
    }
    votes.finished = true;
    String same = " workers answered, no " + plan.agree() + " of them the same";
    settlement.unavailable(query, votes.all.size() + same + "; none can be believed");
  }

  /** A copy will not be answered whose client does not wait for it any more. */
  void lost(Query query) {
    Votes votes = votes(query);
    if (votes.finished || query.abandoned) {
      return;
    }
    boolean tooOften = query.deaths + query.erasures >= MIN_VOTES || query.deaths > 1;
    if (tooOften || !plan.policy().idempotent()) {
      votes.finished = true;
    } else if (votes.begun()) {
      advance(query);
    }
  }

  private static Votes votes(Query query) {
    return (Votes) query.verification;
  }
}
