package org.approxifer.torchserve.core.verify;

import org.approxifer.torchserve.core.Backlog;
import org.approxifer.torchserve.core.Computation;
import org.approxifer.torchserve.core.Plan;
import org.approxifer.torchserve.core.Query;
import org.approxifer.torchserve.core.Task;
import org.approxifer.torchserve.core.Verifier;

/**
 * Asks more workers.
 *
 * <pre>
 *  pair     two workers answer ─▶ the same ─▶ settle
 *                              └▶ not ─▶ a third answers ─▶ two that are the same settle
 *  vote     S+2E+1 workers answer ─▶ E+1 that are the same settle
 * </pre>
 *
 * <p>Other checks do the same for queries that they cannot check in a group.
 */
class VoteVerifier implements Verifier {
  private final Plan plan;
  private final Backlog backlog;
  private final Voting voting;

  VoteVerifier(Plan plan, Backlog backlog, Voting voting) {
    this.plan = plan;
    this.backlog = backlog;
    this.voting = voting;
  }

  /** True if a query is sent to several workers at once; else its group is checked. */
  boolean votes(Query query) {
    return true;
  }

  @Override
  public boolean admit(Query query) {
    if (!votes(query)) {
      return false;
    }
    verify(query);
    int copies = plan.check() == Plan.Check.VOTE ? plan.copies() : 2;
    for (int copy = 0; copy < (plan.policy().idempotent() ? copies : 1); copy++) {
      backlog.add(Task.raw(query));
    }
    return true;
  }

  /** Answers to this query are compared from now on. */
  final void verify(Query query) {
    query.verification = new Votes(plan.agree());
  }

  @Override
  public boolean answered(Query query, Computation vote) {
    if (!(query.verification instanceof Votes votes)) {
      return false;
    } else if (votes.answeredBy(vote.worker())) {
      return true;
    } else if (votes.finished || query.abandoned) {
      afterwards(query, vote);
      voting.compareWithWinner(query, vote);
      return true;
    }
    votes.all.add(vote);
    if (votes.all.size() > 1) {
      voting.advance(query);
      return true;
    }
    if (!plan.policy().verifyWait()) {
      voting.settle(query, vote, "false");
    }
    first(query, vote);
    return true;
  }

  /** The first answer to a query is in. */
  void first(Query query, Computation vote) {
    voting.askOthers(query, false);
  }

  /** One more answer came to a query that has been decided. */
  void afterwards(Query query, Computation vote) {}

  @Override
  public void lost(Query query) {
    if (query.verification instanceof Votes) {
      voting.lost(query);
    }
  }

  @Override
  public void ended(Query query) {
    if (query.verification instanceof Votes votes) {
      votes.finished = true;
    }
  }
}
