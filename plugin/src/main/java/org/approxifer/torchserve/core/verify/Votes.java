package org.approxifer.torchserve.core.verify;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.approxifer.torchserve.core.Computation;
import org.approxifer.torchserve.core.Query;
import org.approxifer.torchserve.core.verify.CompareTask.Verdict;

/**
 * The answers of different workers to one query, until enough of them are the same.
 *
 * <p>Answers that are the same form a cluster. One that came is compared with the first answer of
 * each cluster, one after another, unless its bytes are those of an answer that is in one.
 */
final class Votes implements Query.Verification {
  /** So many votes that are the same settle the query. */
  final int agree;

  final List<Computation> all = new ArrayList<>(2);

  /** A comparison of two of them is on its way. */
  boolean comparing;

  /** Nobody waits for another vote. */
  boolean finished;

  /** What the votes agreed on; votes that come later are compared with it. */
  Computation winner;

  /** It has been counted that the votes differ. */
  boolean disputed;

  private final List<List<Computation>> clusters = new ArrayList<>(2);

  /** Pairs of which a comparison said that they differ. */
  private final List<Computation[]> different = new ArrayList<>(2);

  /** How many votes are in a cluster; the next one is being placed. */
  private int placed;

  /** With so many clusters the next one has been compared. */
  private int tried;

  Votes(int agree) {
    this.agree = agree;
  }

  /**
   * Places the votes that need no comparison.
   *
   * @return the two votes to be compared next, or null if all are placed
   */
  Computation[] next() {
    while (placed < all.size()) {
      Computation vote = all.get(placed);
      List<Computation> same = clusterWithBytesOf(vote);
      if (same != null) {
        place(same);
      } else if (tried < clusters.size()) {
        return new Computation[] {clusters.get(tried).get(0), vote};
      } else {
        List<Computation> another = new ArrayList<>(2);
        clusters.add(another);
        place(another);
      }
    }
    return null;
  }

  /** Notes what came of the comparison of what {@link #next} returned. */
  void compared(Computation[] pair, Verdict verdict) {
    if (verdict == Verdict.AGREE) {
      place(clusters.get(tried));
    } else {
      tried++;
      if (verdict == Verdict.DISAGREE) {
        different.add(pair);
      }
    }
  }

  private void place(List<Computation> cluster) {
    cluster.add(all.get(placed++));
    tried = 0;
  }

  private List<Computation> clusterWithBytesOf(Computation vote) {
    for (List<Computation> cluster : clusters) {
      if (cluster.stream().anyMatch(other -> sameBytes(vote, other))) {
        return cluster;
      }
    }
    return null;
  }

  /** The votes that settle the query, or null while none do. */
  List<Computation> winners() {
    for (List<Computation> cluster : clusters) {
      if (cluster.size() >= agree) {
        return cluster;
      }
    }
    return null;
  }

  /** True if some votes are not the same, as far as could be found out. */
  boolean split() {
    return clusters.size() > 1;
  }

  /** True if a comparison found it unlike the winners; not if it failed, or was never made. */
  boolean shownWrong(Computation vote, List<Computation> winners) {
    for (Computation[] pair : different) {
      if (sameBytes(pair[0], vote) && winners.contains(pair[1])
          || sameBytes(pair[1], vote) && winners.contains(pair[0])) {
        return true;
      }
    }
    return false;
  }

  static boolean sameBytes(Computation one, Computation other) {
    return Arrays.equals(one.compared(), other.compared());
  }

  @Override
  public boolean open() {
    return !finished;
  }

  @Override
  public boolean begun() {
    return !all.isEmpty();
  }

  @Override
  public boolean answeredBy(String worker) {
    return all.stream().anyMatch(vote -> vote.worker().equals(worker));
  }
}
