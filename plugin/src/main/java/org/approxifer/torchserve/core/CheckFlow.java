package org.approxifer.torchserve.core;

import java.util.List;
import java.util.Set;
import org.approxifer.torchserve.core.Check.Vote;
import org.approxifer.torchserve.core.Comparison.Verdict;

/**
 * Whether an answer is right, by asking more workers.
 *
 * <pre>
 *  pair     two workers answer ─▶ the same ─▶ settle
 *                              └▶ not ─▶ a third answers ─▶ two that are the same settle
 *  vote     S+2E+1 workers answer ─▶ E+1 that are the same settle
 *  screen   one worker answers ─▶ its group is screened ─▶ not doubtful ─▶ settle
 *                              │                        └▶ doubtful ─▶ as pair, one by one
 *                              └▶ no group can screen it ─▶ as pair, one by one
 * </pre>
 *
 * <p>Whoever a comparison found unlike those that settled the query is confirmed wrong.
 */
final class CheckFlow {
  /** Header of an answer: true, screened, or false where nothing has checked it (yet). */
  static final String VERIFIED = "x-approxifer-verified";

  private static final int LEAST_VOTES = 3;

  /** Comparisons for which no client waits; more than this at once are not made. */
  private static final int MOST_BEHIND = 32;

  private final Router router;
  private final Plan plan;
  private final Settlement settlement;
  private final CompareFlow comparisons;
  private final Quarantine quarantine;
  private final int mostVotes;
  private int behind;

  CheckFlow(Router router, Settlement settlement, CompareFlow comparisons, Quarantine quarantine) {
    this.router = router;
    this.plan = router.plan;
    this.settlement = settlement;
    this.comparisons = comparisons;
    this.quarantine = quarantine;
    boolean vote = plan.check() == Plan.Check.VOTE;
    mostVotes = vote ? plan.copies() + plan.agree() : Math.max(LEAST_VOTES, plan.byzantine() + 2);
  }

  /** Sends a query to as many workers at once as are to compute it. */
  void begin(Query query, int copies) {
    query.check = new Check(plan.agree());
    for (int copy = 0; copy < copies; copy++) {
      router.enqueue(Task.raw(query));
    }
  }

  /**
   * A worker answered a query that is being checked.
   *
   * @param prediction what a group can be screened with, or null
   */
  void voted(Query query, Vote vote, byte[] prediction) {
    Check check = query.check;
    if (check.votedBy(vote.worker())) {
      return;
    }
    if (check.finished || query.abandoned) {
      router.screens.entered(query, vote.worker(), prediction);
      if (check.winner != null) {
        judge(query, check.winner, vote);
      }
      return;
    }
    check.votes.add(vote);
    if (check.votes.size() == 1) {
      first(query, vote, prediction);
    } else {
      advance(query);
    }
  }

  private void first(Query query, Vote vote, byte[] prediction) {
    if (!plan.policy().verifyWait()) {
      settlement.answer(query, verified(vote, "false"), vote.outcome());
    }
    if (!router.screens.entered(query, vote.worker(), prediction)) {
      router.counters.unscreened += plan.check() == Plan.Check.SCREEN ? 1 : 0;
      askOthers(query, false);
    }
  }

  /** The answer fits to its group. Where others have answered too, they decide. */
  void screened(Query query) {
    Check check = query.check;
    if (!check.finished && check.votes.size() == 1) {
      check.finished = true;
      Vote vote = check.votes.get(0);
      settlement.answer(query, verified(vote, "screened"), vote.outcome());
    }
  }

  /**
   * Has the query, which has been answered once at least, computed by others until they agree.
   *
   * @param doubtful whether something speaks against the answer; without, it is given unchecked
   *     where no other worker may compute the query
   */
  void askOthers(Query query, boolean doubtful) {
    Check check = query.check;
    boolean unchecked = !doubtful && plan.check() != Plan.Check.VOTE && check.votes.size() == 1;
    if (!check.finished && unchecked && !mayAsk(query)) {
      check.finished = true;
      Vote only = check.votes.get(0);
      settlement.answer(query, verified(only, "false"), only.outcome());
    }
    advance(query);
  }

  private boolean mayAsk(Query query) {
    return plan.policy().idempotent() && router.ledger.another(query.check::votedBy);
  }

  /** Compares the next two votes that have to be; one comparison at a time. */
  private void advance(Query query) {
    Check check = query.check;
    if (check.finished || check.comparing || query.abandoned) {
      return;
    }
    Vote[] pair = check.next();
    List<Vote> winners = check.winners();
    if (winners != null) {
      agreed(query, winners);
    } else if (pair == null) {
      undecided(query);
    } else {
      check.comparing = true;
      comparisons.compare(
          pair[0].prediction(),
          pair[1].prediction(),
          Set.of(pair[0].worker(), pair[1].worker()),
          false,
          verdict -> {
            check.comparing = false;
            check.compared(pair, verdict);
            advance(query);
          });
    }
  }

  private void agreed(Query query, List<Vote> winners) {
    Check check = query.check;
    check.finished = true;
    check.winner = winners.get(0);
    settlement.answer(query, verified(check.winner, "true"), check.winner.outcome());
    for (Vote vote : check.votes) {
      if (winners.contains(vote)) {
        quarantine.judged(vote.worker(), true);
      } else if (check.shownWrong(vote, winners)) {
        wrong(query, vote);
      } else {
        judge(query, check.winner, vote); // it came late, or a comparison failed
      }
    }
  }

  /** Compares an answer with the one that settled its query; a client's work comes first. */
  private void judge(Query query, Vote winner, Vote vote) {
    if (!winner.sameBytes(vote) && behind >= MOST_BEHIND) {
      return;
    }
    behind++;
    comparisons.compare(
        winner.prediction(),
        vote.prediction(),
        Set.of(winner.worker(), vote.worker()),
        true,
        verdict -> {
          behind--;
          if (verdict == Verdict.AGREE) {
            quarantine.judged(vote.worker(), true);
          } else if (verdict == Verdict.DISAGREE) {
            wrong(query, vote);
          }
        });
  }

  private void wrong(Query query, Vote vote) {
    settlement.note(
        true,
        "worker " + vote.worker() + " answered request " + query.requestId() + " unlike others");
    quarantine.judged(vote.worker(), false);
  }

  /** All votes that came have been compared, and too few of them are the same. */
  private void undecided(Query query) {
    Check check = query.check;
    if (check.split() && !check.disputed) {
      check.disputed = true;
      router.counters.disagreements++;
      check.votes.forEach(vote -> router.ledger.of(vote.worker()).suspicions++);
    }
    // A late copy may never come; but the second of a pair is hedged, within its budget.
    boolean second = plan.check() == Plan.Check.PAIR && check.votes.size() == 1;
    boolean another = mayAsk(query);
    if (another && query.queued > 0 || !(second ? query.outstanding.isEmpty() : query.stuck())) {
      return; // more votes are on their way
    }
    if (another && check.votes.size() < mostVotes) {
      router.enqueueFirst(Task.hedge(query));
      return;
    }
    check.finished = true;
    settlement.error(
        query,
        503,
        check.votes.size()
            + " workers answered, no "
            + check.agree
            + " of them the same; none can be believed");
  }

  /** A copy will not be answered whose client does not wait for it any more. */
  void lost(Query query) {
    Check check = query.check;
    if (check.finished || query.abandoned) {
      return;
    }
    if (query.deaths + query.erasures >= LEAST_VOTES
        || query.deaths > 1
        || !plan.policy().idempotent()) {
      check.finished = true;
    } else if (!check.votes.isEmpty()) {
      advance(query);
    }
  }

  private static Answer verified(Vote vote, String how) {
    return vote.answer().with(VERIFIED, how);
  }
}
