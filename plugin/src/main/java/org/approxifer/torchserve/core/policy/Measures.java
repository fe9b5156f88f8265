package org.approxifer.torchserve.core.policy;

/** What the policy has learnt of one model's workers, and what it allows. */
public record Measures(
    ServiceTimes times,
    Overtaking overtaking,
    Load load,
    HedgeBudget budget,
    Overload overload,
    Trust trust,
    Blame blame) {

  /**
   * Nothing yet.
   *
   * @param recentFamily the family of classes that computes clients' requests
   * @param maxExtraLoad what copies may add to the load at most
   */
  public Measures(int recentFamily, double maxExtraLoad) {
    this(
        new ServiceTimes(recentFamily),
        new Overtaking(),
        new Load(),
        new HedgeBudget(maxExtraLoad),
        new Overload(),
        new Trust(),
        new Blame());
  }
}
