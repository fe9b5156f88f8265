package org.approxifer.torchserve.core;

/** A unit of work for one worker, waiting in the {@link Backlog}. */
final class Task {
  /** What the worker is asked to do; the names travel in the job header. */
  enum Kind {
    RAW("raw"),
    HEDGE("raw"),
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

    /** True if it runs the model for clients; how long it takes tells how fast the workers are. */
    boolean forClients() {
      return ofOneQuery() || this == CODED || this == PARITY;
    }

    boolean ofOneQuery() {
      return this == RAW || this == HEDGE;
    }
  }

  final Kind kind;

  /** The query of a RAW or HEDGE task, else null. */
  final Query query;

  /** The group of a PARITY, ENCODE, CODED, DECODE or SCREEN task; a raw task's is its query's. */
  final Group group;

  /** Coded query index of a PARITY or CODED task, else -1. */
  final int coded;

  /** A worker that should not get this task before {@link #avoidUntil}; or null. */
  String avoid;

  /** Monotonic time in ns; afterwards any worker is better than none. */
  long avoidUntil;

  /** The two predictions of a COMPARE task, else null. */
  Comparison comparison;

  /** The only worker that may have it, a PROBE's; or null. */
  String only;

  /** That worker's account. */
  Ledger.Entry probed;

  /** How often a worker died on it. */
  int deaths;

  private Task(Kind kind, Query query, Group group, int coded) {
    this.kind = kind;
    this.query = query;
    this.group = group;
    this.coded = coded;
  }

  static Task raw(Query query) {
    return new Task(Kind.RAW, query, query.group, -1);
  }

  static Task hedge(Query query) {
    return new Task(Kind.HEDGE, query, query.group, -1);
  }

  static Task ofGroup(Kind kind, Group group, int coded) {
    return new Task(kind, null, group, coded);
  }

  static Task compare(Comparison comparison) {
    Task task = new Task(Kind.COMPARE, null, null, -1);
    task.comparison = comparison;
    return task;
  }

  static Task probe(String worker, Ledger.Entry entry) {
    Task task = new Task(Kind.PROBE, null, null, -1);
    task.only = worker;
    task.probed = entry;
    return task;
  }

  /** The same work once more, for another worker than the one that did not do it. */
  Task again(String notHere, long until) {
    Task task = new Task(kind == Kind.RAW ? Kind.HEDGE : kind, query, group, coded);
    task.deaths = deaths;
    task.avoid = notHere;
    task.avoidUntil = until;
    return task;
  }

  /** True if a batch may hold nothing but this task. */
  boolean alone() {
    return kind.ofOneQuery() ? query.alone : kind != Kind.CODED;
  }

  /** True if nobody waits for the result any more. */
  boolean dead() {
    return switch (kind) {
      case RAW, HEDGE -> query.done();
      case PARITY -> !group.wantsParity(coded);
      case CODED -> group.settled() || group.broken || group.decoding;
      case ENCODE -> group.settled();
      case DECODE -> group.toDecode().isEmpty();
      case SCREEN -> group.screen.stage != Screen.Stage.RUNNING || !group.screen.wanted();
      case COMPARE -> comparison.done();
      case PROBE -> probed.gone;
    };
  }
}
