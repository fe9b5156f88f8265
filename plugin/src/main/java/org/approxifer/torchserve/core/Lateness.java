package org.approxifer.torchserve.core;

import java.util.LinkedHashMap;
import java.util.Map;
import org.approxifer.torchserve.core.policy.Deadline;
import org.approxifer.torchserve.core.policy.Overtaking;
import org.approxifer.torchserve.core.policy.ServiceTimes;

/**
 * When a job is late: after a fixed time, or after what its batch's class usually takes and half as
 * much again. While nothing is known of the class a job is late once one that was begun after it
 * has overtaken it.
 */
public final class Lateness {
  /** How soon those of whose class nothing is known are looked at. */
  static final long LOOK_NANOS = 50_000_000L;

  /** What other parts are told while nothing is known: retries are to leave a worker alone. */
  static final long COLD_NANOS = 200_000_000L;

  /** Less than a hiccup of the machine is not worth a copy. */
  static final long MIN_NANOS = 5_000_000L;

  private final long fixed;
  private final Deadline deadline;
  private final ServiceTimes times;
  private final Overtaking overtaking;
  private int lastKind = -1;

  Lateness(Plan.Policy policy, ServiceTimes times, Overtaking overtaking) {
    fixed = policy.lateAfterNanos();
    deadline = policy.deadline();
    this.times = times;
    this.overtaking = overtaking;
  }

  /** A job of the batch is late so long after it began; {@link ServiceTimes#UNKNOWN} if unknown. */
  long after(Batch batch) {
    if (fixed >= 0) {
      return fixed;
    }
    if (batch.what == Sharing.FORWARD) {
      lastKind = batch.kind();
    }
    long after = times.lateAfter(batch.kind());
    return after == ServiceTimes.UNKNOWN ? after : Math.max(MIN_NANOS, after);
  }

  /** True if the user said what is late: then copies do not wait for the budget to be full. */
  boolean fixed() {
    return fixed >= 0;
  }

  /** True if the batch's jobs are late now. */
  boolean late(Batch batch, long now) {
    long after = after(batch);
    return after == ServiceTimes.UNKNOWN ? overtaken(batch, now) : now - batch.begun >= after;
  }

  /** True if a batch like this one that was begun later needed no half of the time it has had. */
  boolean overtaken(Batch batch, long now) {
    return overtaking.overtaken(batch.kind(), batch.begun, now);
  }

  /** When a client's job is late now, about. */
  public long nanos() {
    if (fixed >= 0) {
      return fixed;
    }
    long after = lastKind < 0 ? ServiceTimes.UNKNOWN : times.lateAfter(lastKind);
    return after == ServiceTimes.UNKNOWN ? COLD_NANOS : Math.max(MIN_NANOS, after);
  }

  /** After this time something is done about what nothing else has moved. */
  public long patienceNanos() {
    return deadline.patience(times);
  }

  Map<String, Object> report() {
    int clients = Sharing.FORWARD.ordinal();
    Map<String, Object> report = new LinkedHashMap<>();
    report.put("late_after_ms", nanos() / 1e6);
    report.put("service_p50_ms", times.quantile(clients, .5) / 1e6);
    report.put("service_p99_ms", times.quantile(clients, .99) / 1e6);
    return report;
  }
}
