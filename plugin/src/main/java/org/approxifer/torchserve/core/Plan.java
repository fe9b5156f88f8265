package org.approxifer.torchserve.core;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** What the router needs to know of a code and its policy: {@code plan.json} (docs/protocol.md). */
public final class Plan {
  /** The only layout of plan.json that this plugin reads. */
  public static final int FORMAT = 1;

  /** The role of the model's own weights. */
  static final String BASE = "base";

  /** How the queries of a model reach its workers. */
  public enum Mode {
    SYSTEMATIC,
    CODED,
    REPLICATED,
    UNCODED
  }

  /** How answers are verified. */
  public enum Verify {
    NONE,
    /** Two workers compute each query, a third decides where they differ. */
    PAIR,
    /** S+2E+1 workers compute each query, E+1 that agree settle it. */
    VOTE,
    /** A worker tells whether the answers of a group fit together. */
    SCREEN,
    /** The decode job leaves out the answers it finds wrong. */
    LOCATE
  }

  private final JsonObject json;
  final boolean enabled;
  final Mode mode;
  final int queries;
  final int numWorkers;

  /** Any this many answers of a group recover all of it. */
  final int quorum;

  final int copies;

  /** S: so many workers may fail one query before it is given up; at least 1. */
  final int stragglers;

  /** E: so many workers of a group may be wrong. */
  final int byzantine;

  /** Coded query indices that are not a query themselves. */
  final List<Integer> parities = new ArrayList<>();

  /** Whose weights serve each coded query: {@link #BASE}, or a role of the code's own. */
  final List<String> models = new ArrayList<>();

  /** Lateness in nanoseconds, or -1 for auto. */
  final long lateAfterNanos;

  final boolean hedge;
  final boolean reconstruct;
  final long groupDelayNanos;
  final long deadlineNanos;

  /** How long a reconstruction waits for an exact answer that is on its way. */
  final long preferExactNanos;

  final double maxExtraLoad;
  final boolean idempotent;

  final Verify verify;

  /** So many answers to one query that are the same settle it, where queries are verified. */
  final int agree;

  /** From so many coded queries on a group whose missing answers are late is screened. */
  final int screenQuorum;

  /** Members that a screen finds doubtful are decoded from the others. */
  final boolean reconstructDoubtful;

  /** The client's answer waits for the check; else the check follows it. */
  final boolean verifyWait;

  /** How often each worker gets the archive's known query, or 0 for never. */
  final long probeEveryNanos;

  /** Wrong so many times… */
  final int quarantineWrong;

  /** …of so many judged answers: no client work, until… */
  final int quarantineOf;

  /** …so many clean probes in a row. */
  final int quarantineClean;

  private Plan(JsonObject json) {
    this.json = json;
    int format = integer(json, "format");
    if (format != FORMAT) {
      throw new JsonParseException(
          "plan.json: expected format "
              + FORMAT
              + ", found "
              + format
              + "; archive the model again with the package that belongs to this plugin");
    }
    enabled = !json.has("enabled") || json.get("enabled").getAsBoolean();
    mode = Mode.valueOf(need(json, "mode").getAsString().toUpperCase(Locale.ROOT));
    queries = integer(json, "queries");
    numWorkers = integer(json, "num_workers");
    copies = integer(json, "copies");
    JsonObject code = need(json, "code").getAsJsonObject();
    stragglers = code.has("stragglers") ? Math.max(1, integer(code, "stragglers")) : 1;
    byzantine = code.has("byzantine") ? integer(code, "byzantine") : 0;
    quorum = need(json, "quorum").isJsonNull() ? numWorkers : integer(json, "quorum");
    int index = 0;
    for (JsonElement element : need(json, "systematic").getAsJsonArray()) {
      if (element.isJsonNull()) {
        parities.add(index);
      }
      index++;
    }
    readModels();
    JsonObject policy = need(json, "policy").getAsJsonObject();
    JsonElement late = need(policy, "late_after_ms");
    lateAfterNanos =
        late.getAsString().equals("auto") ? -1 : (long) (late.getAsDouble() * 1_000_000);
    hedge = need(policy, "hedge").getAsBoolean();
    reconstruct = need(policy, "reconstruct").getAsBoolean();
    groupDelayNanos = (long) (need(policy, "group_delay_ms").getAsDouble() * 1_000_000);
    deadlineNanos = (long) (need(policy, "deadline_ms").getAsDouble() * 1_000_000);
    preferExactNanos =
        policy.has("prefer_exact_ms")
            ? (long) (policy.get("prefer_exact_ms").getAsDouble() * 1_000_000)
            : 0;
    maxExtraLoad = need(policy, "max_extra_load").getAsDouble();
    idempotent = need(policy, "idempotent").getAsBoolean();
    boolean pair = policy.has("verify") && policy.get("verify").getAsString().equals("pair");
    verify =
        json.has("check")
            ? Verify.valueOf(json.get("check").getAsString().toUpperCase(Locale.ROOT))
            : pair ? Verify.PAIR : Verify.NONE;
    agree = verify == Verify.VOTE ? integer(json, "agree") : 2;
    screenQuorum = verify == Verify.SCREEN ? integer(json, "screen_quorum") : numWorkers;
    reconstructDoubtful =
        policy.has("on_wrong") && policy.get("on_wrong").getAsString().equals("reconstruct");
    verifyWait = !policy.has("verify_wait") || policy.get("verify_wait").getAsBoolean();
    probeEveryNanos =
        policy.has("probe_every_s") ? (long) (policy.get("probe_every_s").getAsDouble() * 1e9) : 0;
    JsonObject quarantine =
        policy.has("quarantine") ? policy.getAsJsonObject("quarantine") : new JsonObject();
    quarantineWrong = quarantine.has("wrong") ? integer(quarantine, "wrong") : 2;
    quarantineOf = quarantine.has("of") ? integer(quarantine, "of") : 10;
    quarantineClean = quarantine.has("clean") ? integer(quarantine, "clean") : 3;
    if (queries < 1 || numWorkers < queries || quorum < 1 || quorum > numWorkers || copies < 1) {
      throw new JsonParseException(
          "plan.json: expected 1 <= queries <= num_workers, 1 <= quorum <= num_workers, copies >="
              + " 1; found queries="
              + queries
              + " num_workers="
              + numWorkers
              + " quorum="
              + quorum
              + " copies="
              + copies);
    }
    boolean fits =
        switch (verify) {
          case NONE -> true;
          case PAIR -> mode != Mode.CODED;
          case VOTE -> mode == Mode.REPLICATED && 1 <= agree && agree <= copies;
          case SCREEN ->
              mode == Mode.SYSTEMATIC
                  && !parities.isEmpty()
                  && queries < screenQuorum
                  && screenQuorum <= numWorkers;
          case LOCATE -> mode == Mode.CODED;
        };
    if (!fits) {
      throw new JsonParseException(
          "plan.json: check \""
              + verify.name().toLowerCase(Locale.ROOT)
              + "\" does not go with mode "
              + mode.name().toLowerCase(Locale.ROOT)
              + ", copies="
              + copies
              + ", agree="
              + agree
              + ", "
              + parities.size()
              + " parities, screen_quorum="
              + screenQuorum);
    }
  }

  private void readModels() {
    if (json.has("models")) {
      need(json, "models").getAsJsonArray().forEach(role -> models.add(role.getAsString()));
    } else {
      models.addAll(Collections.nCopies(numWorkers, BASE));
    }
    boolean fits = models.size() == numWorkers;
    for (int index = 0; fits && mode == Mode.SYSTEMATIC && index < numWorkers; index++) {
      // A query that is sent as it is answers a client.
      fits = parities.contains(index) || models.get(index).equals(BASE);
    }
    if (!fits) {
      throw new JsonParseException(
          "plan.json: expected "
              + numWorkers
              + " models, \""
              + BASE
              + "\" for each query that is sent as it is; found "
              + models);
    }
  }

  /** Reads a plan; a {@link JsonParseException} says which key is wrong. */
  public static Plan parse(String text) {
    try {
      return new Plan(JsonParser.parseString(text).getAsJsonObject());
    } catch (IllegalStateException | IllegalArgumentException | UnsupportedOperationException e) {
      throw new JsonParseException("plan.json: " + e.getMessage(), e);
    }
  }

  /** False where the archive says that the model is served plainly. */
  public boolean enabled() {
    return enabled;
  }

  /** Mode, code and policy as the archive states them. */
  Map<String, Object> report() {
    Map<String, Object> report = new LinkedHashMap<>();
    for (String key : List.of("mode", "code", "check", "policy")) {
      if (json.has(key)) {
        report.put(key, json.get(key));
      }
    }
    return report;
  }

  private static JsonElement need(JsonObject object, String key) {
    JsonElement element = object.get(key);
    if (element == null) {
      throw new JsonParseException("plan.json: key \"" + key + "\" is missing");
    }
    return element;
  }

  private static int integer(JsonObject object, String key) {
    return need(object, key).getAsInt();
  }
}
