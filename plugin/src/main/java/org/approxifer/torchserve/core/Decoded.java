package org.approxifer.torchserve.core;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.HashMap;
import java.util.Map;

/** What becomes of the reply to a decode job. */
final class Decoded {
  private final Router router;
  private final Plan plan;
  private final Settlement settlement;

  Decoded(Router router, Settlement settlement) {
    this.router = router;
    this.plan = router.plan;
    this.settlement = settlement;
  }

  /** Answers the members of a group that were decoded. */
  void settle(Group group, Answer answer, Reply reply) throws Reply.MalformedReply {
    JsonObject answers = reply.object("answers");
    if (answers == null) {
      throw new Reply.MalformedReply("the decode reply has no answers");
    }
    for (Map.Entry<String, JsonElement> entry : answers.entrySet()) {
      Query query = group.members.get(Integer.parseInt(entry.getKey()));
      JsonObject item = entry.getValue().getAsJsonObject();
      boolean checked = query.check != null && !query.check.finished;
      if (item.has("error") && checked) {
        continue; // other workers are asked
      } else if (item.has("error")) {
        JsonObject error = item.getAsJsonObject("error");
        settlement.error(query, error.get("status").getAsInt(), error.get("message").getAsString());
        continue;
      }
      Map<String, String> headers = new HashMap<>();
      if (item.has("headers")) {
        item.getAsJsonObject("headers")
            .entrySet()
            .forEach(header -> headers.put(header.getKey(), header.getValue().getAsString()));
      }
      if (group.screen != null) {
        boolean fits = group.screen.stage == Screen.Stage.DONE;
        headers.put(CheckFlow.VERIFIED, fits ? "screened" : "false");
      }
      if (checked && query.check.votes.isEmpty()) {
        query.check.finished = true; // it was late; nothing speaks against anybody
      }
      reconstructed(
          query,
          new Answer(
              reply.section(item.get("section").getAsString()),
              text(item, "contentType"),
              item.has("status") ? item.get("status").getAsInt() : answer.status(),
              text(item, "phrase"),
              headers));
    }
    suspect(group, reply);
  }

  /** Workers whose answers a decode job of a Byzantine code left out. */
  private void suspect(Group group, Reply reply) throws Reply.MalformedReply {
    if (plan.check() == Plan.Check.LOCATE && reply.header.has("wrong")) {
      for (int index : reply.indices("wrong", plan.numWorkers())) {
        if (group.gave.containsKey(index)) {
          router.probing.suspect(group.gave.get(index));
        }
      }
    }
  }

  /** Gives a client its decoded answer, or keeps it while an exact one may still come. */
  private void reconstructed(Query query, Answer answer) {
    if (plan.policy().preferExactNanos() > 0 && !query.outstanding.isEmpty() && !query.settled) {
      query.spare = answer;
      router.after(
          plan.policy().preferExactNanos(),
          () -> settlement.answer(query, answer, Outcome.RECONSTRUCTED));
    } else {
      settlement.answer(query, answer, Outcome.RECONSTRUCTED);
    }
  }

  private static String text(JsonObject object, String key) {
    JsonElement element = object.get(key);
    boolean none = element == null || element.isJsonNull() || element.getAsString().isEmpty();
    return none ? null : element.getAsString();
  }
}
