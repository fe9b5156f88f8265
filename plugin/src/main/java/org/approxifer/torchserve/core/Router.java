package org.approxifer.torchserve.core;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import java.util.function.Supplier;

/**
 * The life of the requests of one model version: admit, group, hand out, watch, settle once.
 *
 * <p>Every public method may be called from any thread. State changes under one lock; replies to
 * clients are collected meanwhile and sent after it is released, because a client's reply may block
 * or throw.
 */
public final class Router {
  final Plan plan;
  final Clock clock;
  final Lateness lateness;
  final ExtraWork extra;

  /** Parities have a budget of their own: they must be there before anything is late. */
  final ExtraWork parityWork;

  final Ledger ledger = new Ledger();
  final Counters counters;

  private final ReentrantLock lock = new ReentrantLock();
  final Backlog backlog = new Backlog();
  final Holders holders;
  final HandOut handOut;
  private final Settlement settlement;
  final GroupFlow groups;
  final QueryFlow queries;
  final ScreenFlow screens;
  final CheckFlow checks;
  private final CompareFlow comparisons;
  final ProbeFlow probing;
  private final Quarantine quarantine;
  private final Payloads payloads;

  /** The archive's known query, or null. */
  Probe probe;

  private final Watchdog watchdog;
  private final Admission admission;
  private final State state = new State(this);
  private final Timers timers;
  final Set<Query> live = new LinkedHashSet<>();
  final Set<Assignment> out = new LinkedHashSet<>();
  private final ArrayDeque<Runnable> replies = new ArrayDeque<>();

  /**
   * @param name model and version, for messages
   * @param limit how many clients may wait at once (TorchServe's jobQueueSize)
   */
  public Router(String name, Plan plan, int limit, Signer signer, Clock clock, Timers timers) {
    this.plan = plan;
    this.clock = clock;
    this.timers = timers;
    counters = new Counters(plan.queries());
    lateness = new Lateness(plan);
    extra = new ExtraWork(plan.policy().maxExtraLoad(), false);
    parityWork = new ExtraWork(plan.policy().maxExtraLoad(), true);
    payloads = new Payloads(signer);
    holders = new Holders(plan, ledger, clock);
    handOut =
        new HandOut(
            lock, clock, backlog, ledger, holders, payloads, this::onHanded, this::onTakenBack);
    settlement = new Settlement(name, clock, counters, live, replies);
    queries = new QueryFlow(this, settlement);
    groups = new GroupFlow(this, settlement, queries);
    screens = new ScreenFlow(this, settlement);
    quarantine = new Quarantine(this, settlement);
    comparisons = new CompareFlow(this);
    probing = new ProbeFlow(this, comparisons, quarantine);
    checks = new CheckFlow(this, settlement, comparisons, quarantine);
    watchdog = new Watchdog(name, this, settlement);
    admission = new Admission(name, limit, this, settlement, watchdog);
  }

  // ------------------------------------------------------------------ admit

  /** Takes a request in. It is always answered through the client, a refusal too. */
  public void offer(Client client) {
    locked(() -> admission.offer(client));
  }

  // --------------------------------------------------------------- hand out

  /** Waits for a worker's next task. */
  public Assignment await(String worker) throws InterruptedException {
    return handOut.await(worker);
  }

  /** One more task for the batch that a worker is filling, or null. */
  public Assignment more(String worker) {
    return callLocked(() -> handOut.more(worker));
  }

  /** The first task of a batch if there is one now, or null. */
  public Assignment poll(String worker) {
    return callLocked(() -> handOut.first(worker));
  }

  private void onHanded(Assignment assignment) {
    out.add(assignment);
    counters.handed(assignment.task.kind);
    Task task = assignment.task;
    if (task.kind.ofOneQuery()) {
      task.query.outstanding.add(assignment);
      if (task.query.handOuts++ == 0) {
        counters.queueSeconds.recordNanos(assignment.handedNanos - task.query.admittedNanos);
      }
    }
    if (task.group != null) {
      task.group.handed(assignment);
    }
    if (task.kind != Task.Kind.PARITY || task.group.screen != null) {
      assignment.lateTimer = timers.after(lateness.nanos(), () -> late(assignment));
    }
  }

  private void onTakenBack(Assignment assignment) {
    finish(assignment);
    notBegun(assignment);
    if (assignment.task.query != null) {
      assignment.task.query.handOuts--;
    }
  }

  // ------------------------------------------------------------ what came

  /** A worker answered. Called once or more per assignment; only the first counts. */
  public void answered(Assignment assignment, Answer answer) {
    locked(
        () -> {
          if (!finish(assignment)) {
            counters.duplicates++;
            return;
          }
          long service = clock.nanos() - assignment.handedNanos;
          Ledger.Entry worker = ledger.of(assignment.worker);
          worker.answered(service, service <= lateness.nanos());
          if (assignment.task.kind.forClients()) {
            lateness.answered(assignment.handedNanos, service);
          }
          counters.served(assignment.task.kind, service);
          if (!worker.slow()) {
            lateness.record(service);
          }
          Task task = assignment.task;
          if (task.query != null && !task.query.client.framed()) {
            settlement.answer(task.query, answer, Outcome.EXACT);
            return;
          }
          try {
            Reply reply = Reply.parse(answer.body());
            if (reply.text("erasure") == null) {
              worker.usable();
            }
            flow(task).answered(assignment, answer, reply);
          } catch (Reply.MalformedReply e) {
            flow(task).erased(assignment, "malformed reply: " + e.getMessage());
          }
        });
  }

  /** A worker died, or TorchServe answered for it. */
  public void failed(Assignment assignment, int status, String message) {
    locked(
        () -> {
          if (!finish(assignment)) {
            counters.duplicates++;
          } else if (message != null && message.startsWith("Worker died")) {
            counters.deaths++;
            settlement.note(
                true, "worker " + assignment.worker + " died with a " + assignment.described());
            ledger.of(assignment.worker).died(clock.nanos());
            holders.left(assignment.worker);
            flow(assignment.task).died(assignment);
          } else {
            ledger.of(assignment.worker).returned();
            flow(assignment.task).failed(assignment, status, message);
          }
        });
  }

  /** TorchServe put a job back that its worker never started (scale-down). */
  public void returned(Assignment assignment) {
    locked(
        () -> {
          if (finish(assignment)) {
            notBegun(assignment);
            counters.returned++;
            flow(assignment.task).returned(assignment.task);
          }
        });
  }

  private void notBegun(Assignment assignment) {
    ledger.of(assignment.worker).returned();
    if (assignment.task.group != null) {
      assignment.task.group.used.remove(assignment.worker);
    }
  }

  private void late(Assignment assignment) {
    locked(
        () -> {
          if (assignment.done) {
            return;
          }
          counters.late++;
          assignment.late = true;
          ledger.of(assignment.worker).late(clock.nanos());
          extra.open(ledger.someInTrouble(clock.nanos()));
          flow(assignment.task).late(assignment);
        });
  }

  private Flow flow(Task task) {
    return switch (task.kind) {
      case RAW, HEDGE -> queries;
      case PARITY, ENCODE, CODED, DECODE -> groups;
      case SCREEN -> screens;
      case COMPARE -> comparisons;
      case PROBE -> probing;
    };
  }

  /** True the first time; undoes what the hand-out noted. */
  private boolean finish(Assignment assignment) {
    if (assignment.done) {
      return false;
    }
    assignment.done = true;
    out.remove(assignment);
    if (assignment.lateTimer != null) {
      assignment.lateTimer.cancel();
    }
    Task task = assignment.task;
    if (task.query != null) {
      task.query.outstanding.remove(assignment);
    } else if (task.group != null) {
      task.group.outstanding.remove(assignment);
    }
    return true;
  }

  // ------------------------------------------------------------------ watch

  /**
   * Finds what nobody calls back: to be called every 50 ms or so.
   *
   * @param workers ids of the model's workers now, in whatever state
   * @param registered whether the model version is still registered
   */
  public void guard(Set<String> workers, boolean registered) {
    locked(
        () -> {
          long now = clock.nanos();
          holders.keep(workers);
          extra.open(ledger.someInTrouble(now));
          watchdog.observe(workers, registered, now);
          for (Assignment assignment : new ArrayList<>(out)) {
            if (watchdog.forgotten(assignment) && finish(assignment)) {
              counters.unreturned++;
              settlement.note(
                  true, "worker " + assignment.worker + " left with a " + assignment.described());
              flow(assignment.task).returned(assignment.task);
            }
          }
          new ArrayList<>(live).forEach(watchdog::check);
          backlog.sweep();
          probing.probe(workers, now);
        });
  }

  /** True once the model is unregistered and nobody waits any more. */
  public boolean finished() {
    return callLocked(() -> watchdog.closed() && live.isEmpty() && out.isEmpty());
  }

  // ------------------------------------------------------------- quarantine

  /** Sets the known query for probes; before any worker is handed one. */
  public void probeWith(Probe known) {
    locked(
        () -> {
          probe = known;
          payloads.probe(known);
        });
  }

  /** Sets what restarts a worker by id. */
  public void onRestart(Consumer<String> restart) {
    locked(() -> quarantine.onRestart(restart));
  }

  /** Keeps a worker from clients by hand. */
  public ByHand quarantine(String worker) {
    return callLocked(
        () -> {
          if (!ledger.has(worker)) {
            return ByHand.UNKNOWN;
          }
          return quarantine.byHand(worker) ? ByHand.DONE : ByHand.REFUSED;
        });
  }

  /** Gives a worker client work again by hand. */
  public ByHand readmit(String worker) {
    return callLocked(
        () -> {
          if (!ledger.has(worker)) {
            return ByHand.UNKNOWN;
          }
          quarantine.leave(worker, "an operator asked for it");
          return ByHand.DONE;
        });
  }

  boolean probes() {
    return probe != null && plan.policy().probeEveryNanos() > 0;
  }

  // ----------------------------------------------------------------- report

  /** Clients that wait for a worker. */
  public int waiting() {
    return callLocked(backlog::waiting);
  }

  /** How many more clients may wait. */
  public int capacity() {
    return callLocked(admission::capacity);
  }

  /** The state as plain maps and numbers, for GET /coded. */
  public Map<String, Object> report() {
    return callLocked(state::asMap);
  }

  /** The state as metrics of this model version. */
  public List<Metric> metrics() {
    return callLocked(state::asMetrics);
  }

  /** How many workers it takes to answer as the archive promises. */
  public int neededWorkers() {
    if (plan.mode() == Plan.Mode.CODED) {
      return plan.quorum();
    }
    return plan.check() == Plan.Check.NONE || !plan.policy().verifyWait() ? 1 : plan.agree();
  }

  // ------------------------------------------------- for the package's flows

  void enqueue(Task task) {
    backlog.add(task);
  }

  void enqueueFirst(Task task) {
    backlog.addFirst(task);
  }

  Timers.Timer after(long delayNanos, Runnable action) {
    return timers.after(delayNanos, () -> locked(action));
  }

  private void locked(Runnable change) {
    callLocked(
        () -> {
          change.run();
          return null;
        });
  }

  private <T> T callLocked(Supplier<T> change) {
    List<Runnable> due;
    T result;
    lock.lock();
    try {
      result = change.get();
      handOut.dispatch();
      due = new ArrayList<>(replies);
      replies.clear();
    } finally {
      lock.unlock();
    }
    due.forEach(Runnable::run);
    return result;
  }
}
