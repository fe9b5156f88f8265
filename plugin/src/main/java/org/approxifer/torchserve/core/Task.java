package org.approxifer.torchserve.core;

import java.util.List;
import java.util.Locale;
import org.pytorch.serve.util.messages.RequestInput;

/** A unit of work for one worker, waiting in the {@link Backlog}. */
public abstract class Task {
  /** What the worker is asked to do; the names travel in the job header. */
  public enum Kind {
    RAW("raw"),
    HEDGE("raw"),
    /** A copy for a worker that has to show that it is well. */
    SHADOW("raw"),
    PARITY("parity"),
    ENCODE("encode"),
    CODED("coded"),
    DECODE("decode"),
    SCREEN("screen"),
    COMPARE("compare"),
    PROBE("raw");

    final String wire;

    Kind(String wire) {
      this.wire = wire;
    }

    boolean ofOneQuery() {
      return this == RAW || this == HEDGE || this == SHADOW;
    }

    /** The kind in logs, metrics and GET /coded. */
    @Override
    public String toString() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  /** What comes first when a worker asks. */
  public enum Lane {
    /** A client is waiting past lateness, or for no more than this. */
    URGENT,
    MAIN,
    /** Copies of late jobs, the one that began last first. */
    COPY,
    /** What may never delay the others. */
    EXTRA
  }

  public final Kind kind;
  Lane lane;

  /** The query of a RAW or HEDGE task, else null. */
  final Query query;

  /** The group that the task is for; a raw task's is its query's; or null. */
  public final Group group;

  /** Coded query index of a PARITY or CODED task, else -1. */
  public final int coded;

  /** The only worker that may have it, or null. */
  final String only;

  /** The late job that it is a copy of, within the budget for such; or null. */
  Assignment instead;

  /** How often a worker died on it. */
  int deaths;

  /** A worker that should not get this task before {@link #avoidUntil}; or null. */
  private String avoid;

  private long avoidUntil;

  private Task(Kind kind, Lane lane, Query query, Group group, int coded, String only) {
    this.kind = kind;
    this.lane = lane;
    this.query = query;
    this.group = group;
    this.coded = coded;
    this.only = only;
  }

  /**
   * A task of a verifier's own.
   *
   * @param group that it is for, or null
   * @param only the one worker that may have it, or null
   */
  protected Task(Kind kind, Lane lane, Group group, String only) {
    this(kind, lane, null, group, -1, only);
  }

  /** A query for one worker to compute. */
  public static Task raw(Query query) {
    return new OfQuery(Kind.RAW, query);
  }

  /** A query for one more worker to compute. */
  public static Task hedge(Query query) {
    return new OfQuery(Kind.HEDGE, query);
  }

  /**
   * A parity of a group.
   *
   * @param lane EXTRA, or MAIN where clients wait for it
   */
  public static Task parity(Group group, int index, Lane lane) {
    return new OfGroup(Kind.PARITY, lane, group, index);
  }

  /** A query for a worker that is not trusted. */
  static Task shadow(Query query) {
    return new OfQuery(Kind.SHADOW, query);
  }

  static Task encode(Group group) {
    return new OfGroup(Kind.ENCODE, Lane.URGENT, group, -1);
  }

  static Task coded(Group group, int index) {
    return new OfGroup(Kind.CODED, Lane.MAIN, group, index);
  }

  static Task decode(Group group) {
    return new OfGroup(Kind.DECODE, Lane.URGENT, group, -1);
  }

  /** What deals with the answer; null for tasks of the router itself. */
  protected Flow flow() {
    return null;
  }

  /** True if nobody waits for the result any more. */
  protected abstract boolean dead();

  /** True if this worker may have it at this time, in monotonic ns. */
  protected boolean may(String worker, long now) {
    return true;
  }

  /** True if a batch may hold nothing but this task, whatever else others of its kind may. */
  protected boolean alone() {
    return false;
  }

  /** Bytes of what is computed, about. */
  protected long bytes() {
    return 1;
  }

  /** What the worker is sent; a new object for every hand-out. */
  protected abstract RequestInput payload(Payloads payloads);

  /** The same work, to be done once more. */
  protected Task copy() {
    throw new UnsupportedOperationException(kind + " jobs are not sent again");
  }

  /** The same work once more, for another worker than the one that did not do it. */
  Task again(String notHere, long until) {
    Task task = copy();
    task.deaths = deaths;
    task.avoid = notHere;
    task.avoidUntil = until;
    return task;
  }

  /** The same work once more, if and when the budget allows it. */
  Task copyOf(Assignment late) {
    Task task = copy();
    task.deaths = deaths;
    task.instead = late;
    task.lane = Lane.COPY;
    return task;
  }

  /** True if another worker has, or had, the same to do. */
  boolean isCopy() {
    return instead != null || kind == Kind.SHADOW;
  }

  /** The task as one that waits for no budget and no job of another: that one may be lost. */
  Task plain() {
    return isCopy() ? copy() : this;
  }

  /** True if nobody waits for the result, or what it is a copy of has ended. */
  final boolean over() {
    return dead() || instead != null && instead.done;
  }

  boolean avoids(String worker, long now) {
    if (instead != null && instead.worker.equals(worker)) {
      return true;
    }
    return worker.equals(avoid) && now - avoidUntil < 0;
  }

  /** The requests it is for, as log lines name them. */
  List<String> requestIds() {
    return group == null ? List.of() : group.requestIds();
  }

  private static final class OfQuery extends Task {
    OfQuery(Kind kind, Query query) {
      super(kind, Lane.MAIN, query, query.group, -1, null);
    }

    @Override
    protected boolean dead() {
      return query.done();
    }

    @Override
    protected boolean may(String worker, long now) {
      return query.may(worker, now);
    }

    @Override
    protected boolean alone() {
      return query.alone;
    }

    @Override
    protected long bytes() {
      return query.bytes;
    }

    @Override
    protected RequestInput payload(Payloads payloads) {
      return payloads.raw(query);
    }

    @Override
    protected Task copy() {
      return hedge(query);
    }

    @Override
    List<String> requestIds() {
      return List.of(query.requestId);
    }
  }

  private static final class OfGroup extends Task {
    OfGroup(Kind kind, Lane lane, Group group, int coded) {
      super(kind, lane, null, group, coded, null);
    }

    @Override
    protected boolean dead() {
      return switch (kind) {
        case PARITY -> !group.verification.wantsParity(group, coded);
        case CODED -> group.settled() || group.broken || group.decoding;
        case DECODE -> group.toDecode().isEmpty();
        default -> group.settled();
      };
    }

    @Override
    protected boolean may(String worker, long now) {
      return coded < 0 || group.may(kind, worker);
    }

    @Override
    protected long bytes() {
      return group.bytes(kind, coded);
    }

    @Override
    protected RequestInput payload(Payloads payloads) {
      return payloads.of(this);
    }

    @Override
    protected Task copy() {
      return new OfGroup(kind, lane, group, coded);
    }
  }
}
