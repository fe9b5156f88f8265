package org.approxifer.torchserve.core;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** The answers of different workers to one query, until two of them agree. */
final class Check {
  /** One worker's answer. */
  record Vote(String worker, Answer answer, byte[] prediction, Outcome outcome) {}

  final List<Vote> votes = new ArrayList<>(2);

  /** A comparison of two of them is on its way. */
  boolean comparing;

  boolean finished;

  /** How many pairs have been compared, in the order (0,1), (0,2), (1,2). */
  private int compared;

  /** The pairs of which a comparison said that they differ. */
  private final List<int[]> different = new ArrayList<>(2);

  /** The next pair of votes to compare, or null if all that came have been. */
  int[] nextPair() {
    int next = 0;
    for (int later = 1; later < votes.size(); later++) {
      for (int earlier = 0; earlier < later; earlier++) {
        if (next++ == compared) {
          compared++;
          return new int[] {earlier, later};
        }
      }
    }
    return null;
  }

  void differ(int[] pair) {
    different.add(pair);
  }

  /** True if a comparison said so; not if it failed, or was never made. */
  boolean differ(int one, int other) {
    int[] pair = {Math.min(one, other), Math.max(one, other)};
    return different.stream().anyMatch(found -> Arrays.equals(found, pair));
  }

  boolean votedBy(String worker) {
    return votes.stream().anyMatch(vote -> vote.worker.equals(worker));
  }
}
