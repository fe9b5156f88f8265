package org.approxifer.torchserve.core;

import java.util.Map;
import org.approxifer.torchserve.core.policy.Deadline;
import org.approxifer.torchserve.core.policy.Measures;
import org.approxifer.torchserve.core.policy.Overload;

/** What becomes of clients that cannot be answered in time, because too many wait. */
record Crowd(
    Schedule schedule,
    Measures measures,
    Backlog backlog,
    Line line,
    Counters counters,
    Settlement settlement) {

  /** How long who comes now is going to wait for a worker, in ns. */
  long predictedNanos() {
    int waiting = backlog.queued();
    return waiting == 0
        ? 0
        : measures
            .overload()
            .predicted(
                line.length(),
                measures.load().fill(),
                measures.times().mean(),
                measures.trust().counted());
  }

  /** Seconds after which a client had better come back, at least 1. */
  long retryAfter() {
    return Overload.seconds(predictedNanos());
  }

  /** True if a client could not be answered in time; it has been told so. */
  boolean refused(Query query) {
    int waiting = backlog.queued();
    measures.overload().observe(waiting, schedule.now());
    if (waiting == 0 || !measures.times().known()) {
      return false;
    }
    query.predictedNanos = predictedNanos();
    if (query.patienceNanos == Deadline.NONE) {
      return false;
    }
    boolean admitted =
        measures
            .overload()
            .admits(
                query.predictedNanos,
                measures.times().median(),
                query.patienceNanos,
                line.length(),
                measures.trust().up() * measures.load().largest(),
                schedule.now());
    if (!admitted) {
      counters.add(Counters.Count.REFUSED);
      String wait = "overloaded: about " + query.predictedNanos / 1_000_000 + " ms of waiting";
      settlement.busy(query, wait + " for a worker; try again", retryAfter());
    }
    return !admitted;
  }

  /**
   * True if a client cannot be answered in time by a worker that begins with it now, while another
   * waits behind it; it has been told so. The last one is always begun with, or an estimate that is
   * wrong could never mend.
   */
  boolean dropped(Task task) {
    Query query = task.query;
    if (task.kind != Task.Kind.RAW
        || query.handOuts > 0
        || backlog.queued() == 0
        || !measures.times().known()
        || !query.hopeless(schedule.now(), measures.times().median())) {
      return false;
    }
    counters.add(Counters.Count.DROPPED);
    String reason = "overloaded: no worker was free in time for the deadline; try again";
    settlement.busy(query, reason, retryAfter());
    return true;
  }

  /** A worker begins with a client for the first time. */
  void begun(Query query) {
    measures.overload().waited(schedule.now() - query.admittedNanos, query.predictedNanos);
  }

  /** To be called after each change of who waits. */
  void observe() {
    measures.overload().observe(backlog.queued(), schedule.now());
  }

  /** For GET /coded. */
  Map<String, Object> report() {
    double correction = Math.round(measures.overload().correction() * 100) / 100.;
    return Map.of("predicted_wait_ms", predictedNanos() / 1e6, "correction", correction);
  }
}
