package org.approxifer.torchserve.core;

import java.util.List;
import java.util.Map;

/** What becomes of the reply to a decode job. */
record Decoded(Plan plan, Schedule schedule, Settlement settlement, Verifier verifier) {

  /** Answers the members of a group that were decoded. */
  void settle(Group group, Reply reply) throws Unusable {
    Map<Integer, Answer> answers = reply.answers(group);
    Map<Integer, Reply.Refusal> errors = reply.errors(group);
    for (Query query : plan.mode() == Plan.Mode.CODED ? group.toDecode() : List.<Query>of()) {
      if (!answers.containsKey(query.index) && !errors.containsKey(query.index)) {
        throw new Unusable("malformed reply: member " + query.index + " is left out");
      }
    }
    answers.forEach(
        (index, answer) -> {
          Query query = group.members.get(index);
          give(query, verifier.decoded(query, answer));
        });
    errors.forEach(
        (index, error) -> {
          Query query = group.members.get(index);
          if (!query.verification.open()) { // else other workers are asked
            settlement.error(query, error.status(), error.message());
          }
        });
    verifier.located(group, reply);
  }

  /** Gives a client its decoded answer, or keeps it while an exact one may still come. */
  private void give(Query query, Answer answer) {
    long wait = plan.policy().preferExactNanos();
    if (wait > 0 && !query.outstanding.isEmpty() && !query.settled) {
      query.spare = answer;
      schedule.after(wait, () -> settlement.answer(query, answer, Outcome.RECONSTRUCTED));
    } else {
      settlement.answer(query, answer, Outcome.RECONSTRUCTED);
    }
  }
}
