package org.approxifer.torchserve.core;

import java.util.HashMap;
import java.util.Map;
import org.approxifer.torchserve.core.policy.Blame;
import org.approxifer.torchserve.core.policy.HedgeBudget;
import org.approxifer.torchserve.core.policy.Load;
import org.approxifer.torchserve.core.policy.Measures;
import org.approxifer.torchserve.core.policy.Overtaking;
import org.approxifer.torchserve.core.policy.ServiceTimes;
import org.approxifer.torchserve.core.policy.Trust;

/** Which batch each worker is at work on, and what the policy learns from its end. */
final class Batches {
  /** How a job ended. */
  enum End {
    WELL,
    /** With an error of the server, or with what is no answer. */
    FAILED,
    /** The worker died, or left. */
    LOST
  }

  /** An original that a freeze kept for minutes does not pay for copies all that time. */
  private static final double MAX_EARNED = 3;

  private final Schedule schedule;
  private final ServiceTimes times;
  private final Overtaking overtaking;
  private final Load load;
  private final HedgeBudget budget;
  private final Trust trust;
  private final Blame blame;
  private final Settlement settlement;
  private final Map<String, Batch> current = new HashMap<>();

  Batches(Schedule schedule, Measures measures, Settlement settlement) {
    this.schedule = schedule;
    times = measures.times();
    overtaking = measures.overtaking();
    load = measures.load();
    budget = measures.budget();
    trust = measures.trust();
    blame = measures.blame();
    this.settlement = settlement;
  }

  /** The batch that a worker is filling or at work on, or null. */
  Batch of(String worker) {
    return current.get(worker);
  }

  /** How many workers are at work. */
  int busy() {
    return current.size();
  }

  /** A worker begins a batch with this task. */
  Batch begin(Task task, String worker) {
    Batch batch = new Batch(task, worker, schedule.now(), trust.first(worker));
    current.put(worker, batch);
    return batch;
  }

  /** Takes a job out of its worker's hands; the batch ends with its last one. */
  void ended(Assignment assignment, End how) {
    Batch batch = assignment.batch;
    batch.failed |= how == End.FAILED;
    batch.lost |= how == End.LOST;
    paidOff(assignment);
    if (how == End.FAILED) {
      trust.failed(batch.worker);
    }
    if (batch.close()) {
      current.remove(batch.worker, batch);
      if (batch.timer != null) {
        batch.timer.cancel();
      }
      learn(batch, schedule.now() - batch.begun);
    }
  }

  /** A client did not have to wait for this answer, because a copy was quicker. */
  private void paidOff(Assignment assignment) {
    Query query = assignment.task.query;
    if (query != null && query.copyAnswered && assignment.task.kind == Task.Kind.RAW) {
      budget.saved(medians(assignment.batch, schedule.now() - query.settledNanos));
    }
  }

  private double medians(Batch batch, long nanos) {
    long median = times.early(batch.kind());
    return median > 0 ? (double) nanos / median : 1;
  }

  /** The same to tell who is slow: a hiccup of the machine is nobody's fault. */
  private double slowness(Batch batch, long nanos) {
    boolean hiccup = nanos - times.early(batch.kind()) < Lateness.MIN_NANOS;
    return hiccup ? Math.min(1, medians(batch, nanos)) : medians(batch, nanos);
  }

  private void learn(Batch batch, long took) {
    boolean well = !batch.failed && !batch.lost;
    pay(batch, medians(batch, took));
    double slowness = slowness(batch, took);
    boolean slow = trust.slow(batch.worker);
    if (well) {
      int kind = batch.kind();
      boolean known = times.early(kind) > 0;
      if (batch.what.forward()) {
        trust.answered(batch.worker, known ? slowness : 0, batch.late);
      }
      if (!batch.first && !slow) {
        times.taught(kind, took);
      }
      if (batch.what == Sharing.FORWARD && !batch.first && !slow) {
        load.ended(batch.jobs.size(), took);
      }
      overtaking.ended(kind, batch.begun, took);
      earn(batch, took);
    }
    if (batch.trial) {
      boolean good = well && (batch.first || trust.usual(slowness));
      if (trust.shadowEnded(batch.worker, good, schedule.now())) {
        blame.forgive(batch.worker);
        settlement.note(true, "worker " + batch.worker + " gets jobs again: it did shadows well");
      }
    }
  }

  private void earn(Batch batch, long took) {
    double originals = 0;
    for (Assignment job : batch.jobs) {
      originals += job.task.kind == Task.Kind.RAW ? 1. / batch.jobs.size() : 0;
    }
    long mean = times.mean();
    double services = mean > 0 ? Math.min(MAX_EARNED, (double) took / mean) : 1;
    budget.earned(originals * services, load.load());
  }

  /** A copy is charged its share of the batch. */
  void copyStarts(Assignment assignment) {
    long median = times.early(assignment.batch.kind());
    double services = median > 0 && times.mean() > 0 ? (double) median / times.mean() : 1;
    assignment.charge = services / load.fill();
    budget.started(assignment.charge);
  }

  private void pay(Batch batch, double medians) {
    for (Assignment job : batch.jobs) {
      if (job.charge > 0) {
        budget.ended(medians, job.charge);
      }
    }
  }
}
