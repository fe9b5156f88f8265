package org.approxifer.torchserve.core;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.approxifer.torchserve.core.Comparison.Verdict;

/**
 * The answers of different workers to one query, until enough of them are the same.
 *
 * <p>Answers that are the same form a cluster. One that came is compared with the first answer of
 * each cluster, one after another, unless its bytes are those of an answer that is in one.
 */
final class Check {
  /** One worker's answer. */
  record Vote(String worker, Answer answer, byte[] prediction, Outcome outcome) {
    boolean sameBytes(Vote other) {
      return Arrays.equals(prediction, other.prediction);
    }
  }

  /** So many votes that are the same settle the query. */
  final int agree;

  final List<Vote> votes = new ArrayList<>(2);

  /** A comparison of two of them is on its way. */
  boolean comparing;

  /** Nobody waits for another vote. */
  boolean finished;

  /** What the votes agreed on; votes that come later are judged by it. */
  Vote winner;

  /** It has been counted that the votes differ. */
  boolean disputed;

  private final List<List<Vote>> clusters = new ArrayList<>(2);

  /** Pairs of which a comparison said that they differ. */
  private final List<Vote[]> different = new ArrayList<>(2);

  /** How many votes are in a cluster; the next one is being placed. */
  private int placed;

  /** With so many clusters the next one has been compared. */
  private int tried;

  Check(int agree) {
    this.agree = agree;
  }

  /**
   * Places the votes that need no comparison.
   *
   * @return the two votes to be compared next, or null if all are placed
   */
  Vote[] next() {
    while (placed < votes.size()) {
      Vote vote = votes.get(placed);
      List<Vote> same = clusterWithBytesOf(vote);
      if (same != null) {
        place(same);
      } else if (tried < clusters.size()) {
        return new Vote[] {clusters.get(tried).get(0), vote};
      } else {
        List<Vote> another = new ArrayList<>(2);
        clusters.add(another);
        place(another);
      }
    }
    return null;
  }

  /** Notes what came of the comparison of what {@link #next} returned. */
  void compared(Vote[] pair, Verdict verdict) {
    if (verdict == Verdict.AGREE) {
      place(clusters.get(tried));
    } else {
      tried++;
      if (verdict == Verdict.DISAGREE) {
        different.add(pair);
      }
    }
  }

  private void place(List<Vote> cluster) {
    cluster.add(votes.get(placed++));
    tried = 0;
  }

  private List<Vote> clusterWithBytesOf(Vote vote) {
    for (List<Vote> cluster : clusters) {
      if (cluster.stream().anyMatch(vote::sameBytes)) {
        return cluster;
      }
    }
    return null;
  }

  /** The votes that settle the query, or null while none do. */
  List<Vote> winners() {
    for (List<Vote> cluster : clusters) {
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
  boolean shownWrong(Vote vote, List<Vote> winners) {
    for (Vote[] pair : different) {
      if (pair[0].sameBytes(vote) && winners.contains(pair[1])
          || pair[1].sameBytes(vote) && winners.contains(pair[0])) {
        return true;
      }
    }
    return false;
  }

  boolean votedBy(String worker) {
    return votes.stream().anyMatch(vote -> vote.worker.equals(worker));
  }
}
