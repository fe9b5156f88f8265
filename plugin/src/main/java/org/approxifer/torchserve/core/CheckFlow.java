package org.approxifer.torchserve.core;

import com.google.gson.JsonObject;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import java.util.function.Consumer;
import org.approxifer.torchserve.core.Comparison.Verdict;

/**
 * Whether answers are right: pairs of workers, and probes.
 *
 * <pre>
 *  verify: pair   two workers answer ─▶ same ─▶ settle
 *                                     └▶ compare ─▶ agree ─▶ settle
 *                                                 └▶ a third answers ─▶ majority settles,
 *                                                                      the other is confirmed wrong
 *  probe          a stored query to every worker ─▶ same as known ─▶ right
 *                                                 └▶ compare ─▶ right, or confirmed wrong
 * </pre>
 *
 * <p>Equal bytes are equal; what differs is compared by a worker with a tolerance, for numbers are
 * Python's business.
 */
final class CheckFlow implements Flow {
  private static final long IMPARTIAL_NANOS = 100_000_000L;
  private static final long QUARANTINE_PROBE_NANOS = 500_000_000L;
  private static final int MOST_VOTES = 3;

  private final Router router;
  private final Settlement settlement;
  private final Quarantine quarantine;

  CheckFlow(Router router, Settlement settlement, Quarantine quarantine) {
    this.router = router;
    this.settlement = settlement;
    this.quarantine = quarantine;
  }

  // ------------------------------------------------------------------- pair

  /** A worker answered a query that is being verified. */
  void voted(Query query, Check.Vote vote) {
    Check check = query.check;
    if (check.finished || check.votedBy(vote.worker())) {
      return;
    }
    check.votes.add(vote);
    boolean alone = router.ledger.size() == 1;
    if (check.votes.size() == 1) {
      if (!router.plan.verifyWait || alone) {
        settlement.answer(query, verified(vote, false), vote.outcome());
      }
      check.finished = alone;
      wantAnother(query);
    } else {
      advance(query);
    }
  }

  /** Compares the next two votes that have not been compared; one comparison at a time. */
  private void advance(Query query) {
    Check check = query.check;
    if (check.finished || check.comparing) {
      return;
    }
    int[] pair = check.nextPair();
    if (pair == null) {
      disagreed(query);
      return;
    }
    Check.Vote one = check.votes.get(pair[0]);
    Check.Vote other = check.votes.get(pair[1]);
    check.comparing = true;
    compare(
        one.prediction(),
        other.prediction(),
        Set.of(one.worker(), other.worker()),
        verdict -> {
          check.comparing = false;
          if (check.finished) {
            return;
          } else if (verdict == Verdict.AGREE) {
            agreed(query, pair[0], pair[1]);
          } else {
            if (verdict == Verdict.DISAGREE) {
              check.differ(pair);
            }
            advance(query);
          }
        });
  }

  private void agreed(Query query, int one, int other) {
    Check check = query.check;
    check.finished = true;
    Check.Vote winner = check.votes.get(one);
    settlement.answer(query, verified(winner, true), winner.outcome());
    for (int i = 0; i < check.votes.size(); i++) {
      String worker = check.votes.get(i).worker();
      if (i == one || i == other) {
        quarantine.judged(worker, true);
      } else if (check.differ(i, one) || check.differ(i, other)) {
        settlement.note(
            true,
            "worker " + worker + " answered request " + query.requestId() + " unlike two others");
        quarantine.judged(worker, false);
      }
      // Else nobody has compared it: a hedge that came late, or a comparison that failed.
    }
  }

  private void disagreed(Query query) {
    Check check = query.check;
    if (check.votes.size() < 2) {
      return;
    }
    router.counters.disagreements++;
    check.votes.forEach(vote -> router.ledger.of(vote.worker()).suspicions++);
    if (check.votes.size() < MOST_VOTES && router.ledger.size() > check.votes.size()) {
      wantAnother(query);
      return;
    }
    check.finished = true;
    settlement.error(
        query, 503, check.votes.size() + " workers gave different answers; none can be believed");
  }

  /** Sends the query to one more worker unless it is on its way to one. */
  private void wantAnother(Query query) {
    boolean onItsWay = query.queued > 0 || !query.outstanding.isEmpty();
    if (!query.check.finished && !onItsWay) {
      router.enqueueFirst(Task.hedge(query));
    }
  }

  private static Answer verified(Check.Vote vote, boolean verified) {
    return vote.answer().with("x-approxifer-verified", String.valueOf(verified));
  }

  // ------------------------------------------------------------------ probe

  /** Probes the workers whose turn it is; to be called every 50 ms or so. */
  void probe(Set<String> workers, long now) {
    if (router.probe == null || router.plan.probeEveryNanos <= 0) {
      return;
    }
    for (String worker : workers) {
      Ledger.Entry entry = router.ledger.of(worker);
      long every =
          entry.quarantined
              ? Math.min(QUARANTINE_PROBE_NANOS, router.plan.probeEveryNanos)
              : router.plan.probeEveryNanos;
      if (!entry.probing && (entry.probes == 0 || now - entry.lastProbe >= every)) {
        entry.probing = true;
        entry.probes++;
        entry.lastProbe = now;
        router.enqueue(Task.probe(worker, entry));
      }
    }
  }

  private void probed(String worker, byte[] prediction) {
    compare(
        router.probe.prediction(),
        prediction,
        Set.of(worker),
        verdict -> {
          router.ledger.of(worker).probing = false;
          if (verdict != Verdict.UNKNOWN) {
            quarantine.probed(worker, verdict == Verdict.AGREE);
          }
        });
  }

  // ---------------------------------------------------------------- compare

  private void compare(byte[] one, byte[] other, Set<String> parties, Consumer<Verdict> then) {
    if (Arrays.equals(one, other)) {
      then.accept(Verdict.AGREE);
      return;
    }
    long until = router.clock.nanos() + IMPARTIAL_NANOS;
    router.enqueueFirst(
        Task.compare(new Comparison(one, other, new HashSet<>(parties), until, then)));
  }

  @Override
  public void answered(Assignment assignment, Answer answer, Reply reply) {
    Task task = assignment.task;
    JsonObject error = reply.object("error");
    if (task.kind == Task.Kind.PROBE) {
      if (reply.has("prediction") && error == null) {
        probed(assignment.worker, reply.section("prediction"));
      } else {
        task.probed.probing = false;
        quarantine.probed(assignment.worker, false);
      }
    } else if (error == null && reply.header.has("agree")) {
      boolean agree = reply.header.get("agree").getAsBoolean();
      task.comparison.end(agree ? Verdict.AGREE : Verdict.DISAGREE);
    } else {
      again(assignment);
    }
  }

  @Override
  public void erased(Assignment assignment, String reason) {
    router.counters.erasures++;
    router.ledger.of(assignment.worker).erased();
    again(assignment);
  }

  @Override
  public void died(Assignment assignment) {
    again(assignment);
  }

  @Override
  public void failed(Assignment assignment, int status, String message) {
    again(assignment);
  }

  @Override
  public void returned(Task task) {
    if (!task.dead()) {
      router.enqueue(task);
    }
  }

  @Override
  public void late(Assignment assignment) {
    if (assignment.task.kind == Task.Kind.COMPARE) {
      again(assignment);
    }
  }

  private void again(Assignment assignment) {
    Task task = assignment.task;
    if (task.kind == Task.Kind.PROBE) {
      task.probed.probing = false; // its next turn comes
    } else if (task.comparison.failedAgain()) {
      task.comparison.parties.add(assignment.worker);
      router.enqueueFirst(task);
    } else {
      task.comparison.end(Verdict.UNKNOWN);
    }
  }
}
