package org.approxifer.torchserve.core;

import com.google.gson.FieldNamingPolicy;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import com.google.gson.annotations.SerializedName;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.approxifer.torchserve.core.policy.Deadline;

/**
 * What the router needs to know of a code and its policy: {@code plan.json}, whose keys are the
 * components' names in snake case (docs/protocol.md).
 *
 * @param format the layout of the file, {@link #FORMAT}
 * @param enabled false where the archive says that the model is served plainly
 * @param mode how the queries reach the workers
 * @param code what the code can lose
 * @param queries K, the size of a full group
 * @param numWorkers N+1, the coded queries of a group
 * @param quorum any this many answers of a group recover all of it; all, where no number does
 * @param copies to how many workers a replicated query goes
 * @param systematic the query that each coded query is, or null
 * @param models whose weights serve each coded query: {@link #BASE}, or a role of the code's own
 * @param check how answers are verified
 * @param agree so many answers to one query that are the same settle it, where it is verified
 * @param screenQuorum from so many coded queries on a group whose missing answers are late is
 *     screened
 * @param policy what is done about lateness and lies
 * @param shown the file itself
 */
public record Plan(
    int format,
    boolean enabled,
    Mode mode,
    Code code,
    int queries,
    int numWorkers,
    Integer quorum,
    int copies,
    List<Integer> systematic,
    List<String> models,
    Check check,
    int agree,
    Integer screenQuorum,
    Policy policy,
    JsonObject shown) {
  /** The only layout of plan.json that this plugin reads. */
  public static final int FORMAT = 1;

  /** The role of the model's own weights. */
  static final String BASE = "base";

  private static final Gson GSON =
      new GsonBuilder()
          .setFieldNamingPolicy(FieldNamingPolicy.LOWER_CASE_WITH_UNDERSCORES)
          .create();

  /** How the queries of a model reach its workers. */
  public enum Mode {
    @SerializedName("systematic")
    SYSTEMATIC,
    @SerializedName("coded")
    CODED,
    @SerializedName("replicated")
    REPLICATED,
    @SerializedName("uncoded")
    UNCODED
  }

  /** How answers are verified. */
  public enum Check {
    @SerializedName("none")
    NONE,
    /** Two workers compute each query, a third decides where they differ. */
    @SerializedName("pair")
    PAIR,
    /** S+2E+1 workers compute each query, E+1 that agree settle it. */
    @SerializedName("vote")
    VOTE,
    /** A worker tells whether the answers of a group fit together. */
    @SerializedName("screen")
    SCREEN,
    /** The decode job leaves out the answers it finds wrong. */
    @SerializedName("locate")
    LOCATE
  }

  /** What becomes of a member that a screen suspects. */
  public enum OnWrong {
    @SerializedName("reexecute")
    REEXECUTE,
    /** It is decoded from the others. */
    @SerializedName("reconstruct")
    RECONSTRUCT
  }

  /**
   * What the code can lose; its other settings are the worker's business.
   *
   * @param stragglers S: so many answers of a group may be missing
   * @param byzantine E: so many workers of a group may be wrong
   */
  public record Code(int stragglers, int byzantine) {}

  /**
   * What is done about lateness and lies. Times are in ms or s as their names say.
   *
   * @param lateAfterMs a number, or "auto"
   * @param hedge a late query is sent to one more worker
   * @param reconstruct a late query is decoded from the others of its group
   * @param groupDelayMs how long a group waits for more queries
   * @param deadlineMs when a client gets what there is, or an error: a number, "auto" or "none"
   * @param preferExactMs how long a reconstruction waits for an exact answer that is on its way
   * @param maxExtraLoad what the policy may add to the load, per request
   * @param idempotent whether a request may run twice
   * @param verifyWait the client's answer waits for the check; else the check follows it
   * @param onWrong what becomes of a member that a screen suspects
   * @param probeEveryS how often each worker gets the archive's known query, or 0 for never
   * @param quarantine when a worker is kept from clients
   */
  public record Policy(
      JsonPrimitive lateAfterMs,
      boolean hedge,
      boolean reconstruct,
      double groupDelayMs,
      JsonPrimitive deadlineMs,
      double preferExactMs,
      double maxExtraLoad,
      boolean idempotent,
      boolean verifyWait,
      OnWrong onWrong,
      double probeEveryS,
      Quarantine quarantine) {

    /** Lateness in nanoseconds, or -1 for auto. */
    long lateAfterNanos() {
      return lateAfterMs.isNumber() ? nanos(lateAfterMs.getAsDouble()) : -1;
    }

    public long groupDelayNanos() {
      return nanos(groupDelayMs);
    }

    Deadline deadline() {
      return new Deadline(deadlineMs.getAsString());
    }

    long preferExactNanos() {
      return nanos(preferExactMs);
    }

    public long probeEveryNanos() {
      return nanos(1000 * probeEveryS);
    }

    private static long nanos(double ms) {
      return (long) (ms * 1e6);
    }
  }

  /**
   * When a worker is kept from clients.
   *
   * @param wrong wrong so many times…
   * @param of …of so many answers that were confirmed right or wrong: no client work, until…
   * @param clean …so many clean probes in a row
   */
  public record Quarantine(int wrong, int of, int clean) {}

  /** Reads a plan; a {@link JsonParseException} says which key is wrong. */
  public static Plan parse(String text) {
    Plan plan;
    try {
      JsonObject json = JsonParser.parseString(text).getAsJsonObject();
      json.add("shown", json.deepCopy());
      Keys.check(json, Plan.class);
      plan = GSON.fromJson(json, Plan.class);
    } catch (IllegalStateException | JsonParseException e) {
      throw new JsonParseException("plan.json: " + e.getMessage(), e);
    }
    String wrong = plan.wrong();
    if (wrong != null) {
      throw new JsonParseException("plan.json: " + wrong);
    }
    return plan;
  }

  /** What contradicts itself, or null. */
  private String wrong() {
    if (format != FORMAT) {
      String again = "; archive the model again with the package that belongs to this plugin";
      return "key \"format\": expected " + FORMAT + ", found " + format + again;
    }
    if (queries < 1 || numWorkers < queries || quorum() < 1 || quorum() > numWorkers) {
      return String.format(
          "expected 1 <= queries <= num_workers, 1 <= quorum <= num_workers; found queries=%d"
              + " num_workers=%d quorum=%d",
          queries, numWorkers, quorum());
    }
    if (mode == Mode.SYSTEMATIC && !systematic.equals(queriesThenParities())) {
      return "key \"systematic\": expected " + queriesThenParities() + ", found " + systematic;
    }
    if (copies < 1) {
      return "key \"copies\": expected 1 or more, found " + copies;
    }
    if (!lateAfterOf(policy.lateAfterMs)) {
      return "key \"policy.late_after_ms\": expected a number or \"auto\", found "
          + policy.lateAfterMs;
    }
    if (!Deadline.wanted(policy.deadlineMs.getAsString())) {
      return "key \"policy.deadline_ms\": expected a positive number, \"auto\" or \"none\", found "
          + policy.deadlineMs;
    }
    return modelsFit() ? wrongCheck() : wrongModels();
  }

  private static boolean lateAfterOf(JsonPrimitive given) {
    return given.isNumber() ? given.getAsDouble() >= 0 : given.getAsString().equals("auto");
  }

  private List<Integer> queriesThenParities() {
    List<Integer> expected = new ArrayList<>();
    for (int index = 0; index < numWorkers; index++) {
      expected.add(index < queries ? index : null);
    }
    return expected;
  }

  private boolean modelsFit() {
    // A query that is sent as it is answers a client.
    return models.size() == numWorkers
        && (mode != Mode.SYSTEMATIC || models.stream().limit(queries).allMatch(BASE::equals));
  }

  private String wrongModels() {
    return String.format(
        "key \"models\": expected %d, \"%s\" for each query that is sent as it is; found %s",
        numWorkers, BASE, models);
  }

  private String wrongCheck() {
    boolean fits =
        switch (check) {
          case NONE -> true;
          case PAIR -> mode != Mode.CODED;
          case VOTE -> mode == Mode.REPLICATED && agree <= copies;
          case SCREEN ->
              mode == Mode.SYSTEMATIC && queries < screenQuorum() && screenQuorum() <= numWorkers;
          case LOCATE -> mode == Mode.CODED;
        };
    if (fits && (check == Check.NONE || agree > 1)) {
      return null;
    }
    return String.format(
        "key \"check\": %s does not go with mode=%s copies=%d agree=%d queries=%d num_workers=%d"
            + " screen_quorum=%d",
        check, mode, copies, agree, queries, numWorkers, screenQuorum);
  }

  @Override
  public Integer quorum() {
    return quorum == null ? numWorkers : quorum;
  }

  @Override
  public Integer screenQuorum() {
    return screenQuorum == null ? numWorkers : screenQuorum;
  }

  /** So many workers may fail one query before it is given up; at least 1. */
  public int stragglers() {
    return Math.max(1, code.stragglers);
  }

  public int byzantine() {
    return code.byzantine;
  }

  /** True if the queries of a systematic model form groups, to be decoded or checked there. */
  boolean groupsSystematic() {
    return policy.reconstruct || check == Check.SCREEN;
  }

  /** True if a worker may be shown what another has just been handed, and its answer dropped. */
  boolean shadows() {
    return policy.idempotent && check == Check.NONE && mode != Mode.CODED;
  }

  /** Mode, code and policy as the archive states them. */
  Map<String, Object> report() {
    Map<String, Object> report = new LinkedHashMap<>();
    for (String key : List.of("mode", "code", "check", "policy")) {
      report.put(key, shown.get(key));
    }
    return report;
  }
}
