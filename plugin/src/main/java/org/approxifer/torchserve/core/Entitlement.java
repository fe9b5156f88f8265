package org.approxifer.torchserve.core;

import java.util.function.Predicate;
import org.approxifer.torchserve.core.policy.Distrust;
import org.approxifer.torchserve.core.policy.ServiceTimes;
import org.approxifer.torchserve.core.policy.Trust;

/** Which worker may have which kind of work, as far as it is trusted. */
record Entitlement(
    Plan plan,
    Schedule schedule,
    Trust trust,
    ServiceTimes times,
    Ledger ledger,
    Hedges hedges,
    Crowd crowd) {

  void asked(String worker) {
    trust.asked(worker);
  }

  void left(String worker) {
    trust.left(worker);
  }

  /** Who is asked first: 0, whose last answer was late 1, who is not trusted 2. */
  int rank(String worker) {
    return trust.trusted(worker) ? trust.lastLate(worker) ? 1 : 0 : 2;
  }

  /**
   * True if a worker may have a task now.
   *
   * @param could whether another worker could have it, were it idle
   */
  boolean may(Task task, String worker, Predicate<String> could) {
    if (task.instead != null && !hedges.ripe(task, schedule.now())) {
      return false;
    }
    return trust.trusted(worker)
        || task.only != null
        || own(task, worker)
        || nobodyElse(worker, could);
  }

  private boolean own(Task task, String worker) {
    Distrust state = trust.state(worker);
    boolean ejected = state == Distrust.EJECTED;
    if (state == Distrust.UNPROVEN && !Sharing.of(task).forward()) {
      return true; // it is first forwards that are slow
    } else if (!ejected && (task.kind == Task.Kind.CODED || task.kind == Task.Kind.PARITY)) {
      return true; // the code can do without any of them
    } else if (task.instead != null) {
      return false;
    } else if (!plan.shadows() && trust.shadowDue(worker, schedule.now())) {
      return true;
    }
    if (!times.known()) {
      return !ejected; // nobody knows how long others would wait for the trusted ones
    }
    long median = times.median();
    boolean inTime =
        task.query == null || !task.query.hopeless(schedule.now(), trust.expected(worker, median));
    return inTime && trust.ownJob(worker, crowd.predictedNanos(), median);
  }

  private boolean nobodyElse(String worker, Predicate<String> could) {
    for (String other : ledger.workers()) {
      if (!other.equals(worker)
          && trust.up(other)
          && trust.trusted(other)
          && !ledger.of(other).quarantined()
          && ledger.of(other).present()
          && could.test(other)) {
        return false;
      }
    }
    return true;
  }

  /** True if a worker is to be shown a query that another has just been handed. */
  boolean shadow(Query query, String worker) {
    return !trust.trusted(worker)
        && trust.shadowDue(worker, schedule.now())
        && query.may(worker, schedule.now())
        && hedges.mayHaveOneMore(query);
  }

  /**
   * Notes a hand-out.
   *
   * @return true if others may be shown what this worker got
   */
  boolean handed(Assignment assignment) {
    String worker = assignment.worker;
    Task task = assignment.task;
    if (!trust.trusted(worker)) {
      if (!assignment.batch.trial) {
        assignment.batch.trial = true;
        trust.shadowed(worker);
      }
      return false;
    }
    return task.kind == Task.Kind.RAW && plan.shadows() && !task.alone() && task.query.framed;
  }
}
