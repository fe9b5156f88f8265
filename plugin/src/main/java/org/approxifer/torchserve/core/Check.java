package org.approxifer.torchserve.core;

import java.util.ArrayList;
import java.util.List;

/** The answers of different workers to one query, until two of them agree. */
final class Check {
  /** One worker's answer. */
  record Vote(String worker, Answer answer, byte[] prediction, Outcome outcome) {}

  final List<Vote> votes = new ArrayList<>(2);
  boolean finished;

  boolean votedBy(String worker) {
    return votes.stream().anyMatch(vote -> vote.worker.equals(worker));
  }
}
