package org.approxifer.torchserve.core.policy;

import java.util.LinkedHashMap;
import java.util.Map;

/**
 * What copies of late jobs may cost, in worker time: one bucket, counted in mean services, that
 * each answered original fills and each copy empties.
 *
 * <p>An original adds a share of its own time. The share is the policy's {@code max_extra_load} as
 * long as copies have lately spared clients more time than they took workers, and workers have
 * room; 1 % always, or it would never be known that copies are of use again.
 */
public final class HedgeBudget {
  /** A tenth as much would lose a third of the tail where 2 % of the runs are slow. */
  private static final double MIN_SHARE = .01;

  /** What the bucket holds, in mean services: a burst of late jobs on nine workers. */
  private static final double MEAN_SERVICES = 10;

  private static final int WORKERS = 9;

  /** One copy is charged so many medians at most, and tells so much of what copies are worth. */
  private static final double MAX_CHARGE = 10;

  private static final double MAX_EVENT = 20;
  private static final double FORGET = 1 - 1 / 32.;

  /** How much later than late a job has to be when the bucket is empty. */
  private static final double PRICE = 2;

  /** What the figures of {@link #report} mean. */
  public static final Map<String, String> HELP =
      Map.of(
          "share", "Share of their own time that answers add to the budget of hedges.",
          "payoff", "Client time that a hedge has spared lately, over the worker time it took.",
          "load", "Share of the workers' capacity that is used.",
          "fill", "How full the budget of hedges is, at most 1.",
          "price", "How many times later than late a job has to be before it is hedged.");

  private final double maxShare;
  private double capacity = MEAN_SERVICES;
  private double tokens = MEAN_SERVICES;

  /** Time that copies spared and took, in medians: a payoff of 2 to begin with. */
  private double saved = 16;

  private double spent = 8;

  public HedgeBudget(double maxShare) {
    this.maxShare = maxShare;
  }

  /** There are so many workers now. */
  public void workers(int workers) {
    double room = MEAN_SERVICES * Math.max(1, (double) workers / WORKERS);
    tokens += room - capacity;
    capacity = room;
  }

  /** An original was answered: the bucket fills. */
  public void earned(double services, double load) {
    tokens = Math.min(capacity, tokens + share(load) * services);
  }

  /** The share of their own time that originals add now. */
  public double share(double load) {
    double worth = Math.min(1, payoff() * Math.max(0, 1 - load));
    return Math.min(maxShare, Math.max(MIN_SHARE, maxShare * worth));
  }

  /** How much client time a copy spares per worker time that it takes. */
  public double payoff() {
    return saved / spent;
  }

  /** True if one more copy may start. */
  public boolean affords() {
    return tokens >= 1;
  }

  /** How many times as late as late a job has to be before it is copied. */
  public double price() {
    return 1 + PRICE * (1 - Math.max(0, Math.min(1, tokens / capacity)));
  }

  /**
   * A copy starts, and is expected to take as long as any other.
   *
   * @param services that time, in mean services
   */
  public void started(double services) {
    tokens -= services;
  }

  /**
   * It ended, having taken this many medians of its class.
   *
   * @param services what it was charged when it started
   */
  public void ended(double medians, double services) {
    tokens -= services * (Math.min(MAX_CHARGE, medians) - 1);
    tokens = Math.min(capacity, tokens);
    spent = spent * FORGET + Math.min(MAX_EVENT, medians);
    saved *= FORGET;
  }

  /** An original was answered so many medians after its copy, which its client did not wait for. */
  public void saved(double medians) {
    saved += Math.min(MAX_EVENT, medians);
  }

  /** For GET /coded. */
  public Map<String, Object> report(double load) {
    Map<String, Object> report = new LinkedHashMap<>();
    report.put("share", round(share(load)));
    report.put("payoff", round(payoff()));
    report.put("load", round(load));
    report.put("fill", round(tokens / capacity));
    report.put("price", round(price()));
    return report;
  }

  private static double round(double value) {
    return Math.round(value * 1000) / 1000.;
  }
}
