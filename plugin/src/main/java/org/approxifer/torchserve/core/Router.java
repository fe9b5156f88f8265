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
import org.approxifer.torchserve.core.policy.HedgeBudget;
import org.approxifer.torchserve.core.policy.Measures;
import org.approxifer.torchserve.core.policy.Trust;
import org.approxifer.torchserve.core.verify.Verification;

/**
 * The life of the requests of one model version: admit, group, hand out, watch, settle once.
 *
 * <p>Every public method may be called from any thread. State changes under one lock; replies to
 * clients are collected meanwhile and sent after it is released, because a client's reply may block
 * or throw.
 */
public final class Router {
  private final ReentrantLock lock = new ReentrantLock();
  private final Set<Query> live = new LinkedHashSet<>();
  private final Set<Assignment> out = new LinkedHashSet<>();
  private final ArrayDeque<Runnable> replies = new ArrayDeque<>();
  private final Backlog backlog;
  private final Ledger ledger = new Ledger();
  private final Plan plan;
  private final Schedule schedule;
  private final Counters counters;
  private final Lateness lateness;
  private final Measures measures;
  private final Hedges hedges;
  private final Crowd crowd;
  private final Jobs jobs;
  private final Holders holders;
  private final HandOut handOut;
  private final Probation probation;
  private final Watchdog watchdog;
  private final Admission admission;
  private final State state;

  /**
   * @param name model and version, for messages
   * @param limit how many clients may wait at once (TorchServe's jobQueueSize)
   */
  public Router(String name, Plan plan, int limit, Signer signer, Clock clock, Timers timers) {
    this.plan = plan;
    schedule = new Schedule(clock, timers, this::locked);
    counters = new Counters(plan.queries());
    measures = new Measures(Sharing.FORWARD.ordinal(), plan.policy().maxExtraLoad());
    Line line = new Line();
    backlog = new Backlog(this::pressing, () -> counters.add(Counters.Count.HEDGES_DENIED));
    lateness = new Lateness(plan.policy(), measures.times(), measures.overtaking());
    ExtraWork parityWork = new ExtraWork(plan.policy().maxExtraLoad());
    holders = new Holders(plan, ledger, schedule);
    Settlement settlement = new Settlement(name, schedule, counters, live, line, replies);
    Batches batches = new Batches(schedule, measures, settlement);
    hedges = new Hedges(plan, schedule, lateness, measures, batches, counters, backlog);
    crowd = new Crowd(schedule, measures, backlog, line, counters, settlement);
    Trust trust = measures.trust();
    Faults faults =
        new Faults(plan, schedule, counters, backlog, ledger, trust, measures.blame(), settlement);
    Decoding decoding = new Decoding(plan, backlog);
    Verification verification =
        new Verification(
            plan, schedule, lateness, counters, backlog, ledger, settlement, hedges, decoding);
    probation = verification.probation();
    Verifier verifier = verification.verifier();
    QueryFlow queries =
        new QueryFlow(
            plan, schedule, lateness, backlog, settlement, hedges, decoding, verifier, faults);
    GroupFlow groups =
        new GroupFlow(
            plan,
            schedule,
            lateness,
            parityWork,
            counters,
            backlog,
            ledger,
            holders,
            settlement,
            hedges,
            decoding,
            verifier,
            queries);
    jobs =
        new Jobs(
            out,
            schedule,
            counters,
            lateness,
            trust,
            batches,
            line,
            crowd,
            hedges,
            faults,
            ledger,
            holders,
            backlog,
            settlement,
            probation,
            queries,
            groups);
    handOut =
        new HandOut(
            lock,
            schedule,
            backlog,
            ledger,
            holders,
            batches,
            new Entitlement(plan, schedule, trust, measures.times(), ledger, hedges, crowd),
            crowd,
            new Payloads(signer),
            jobs::handed,
            jobs::takenBack);
    watchdog = new Watchdog(name, clock, counters, settlement);
    admission =
        new Admission(
            name,
            plan,
            limit,
            schedule,
            live,
            line,
            parityWork,
            measures,
            batches,
            crowd,
            counters,
            backlog,
            settlement,
            verifier,
            groups,
            watchdog);
    state = state(verifier, groups);
  }

  private boolean pressing(Task copy) {
    return hedges.pressing(copy);
  }

  private State state(Verifier verifier, GroupFlow groups) {
    return new State()
        .with(plan::report)
        .with(lateness::report)
        .metrics(counters::addTo)
        .metrics(metrics -> ledger.addTo(metrics, holders, measures.trust()))
        .metric("late_after_seconds", "When a job is late now.", () -> lateness.nanos() / 1e9)
        .with("in_flight", "in_flight", "Clients that wait.", live::size)
        .with("waiting", "waiting", "Tasks that wait for a worker.", backlog::waiting)
        .with(
            "outstanding_jobs",
            "outstanding_jobs",
            "Jobs that workers have not answered.",
            out::size)
        .with("idle_workers", "idle_workers", "Workers that wait.", handOut::idle)
        .with("open_groups", groups::open)
        .with("unscreened_groups", verifier::open)
        .with(
            "dropped_jobs",
            "dropped_jobs_total",
            "Jobs dropped because what they were for was settled.",
            backlog::dropped)
        .with("hedge_budget", () -> measures.budget().report(measures.load().load()))
        .metrics(this::addPolicy)
        .with("overload", crowd::report)
        .with("counters", counters::report)
        .with("workers", () -> ledger.report(schedule.now(), holders, measures.trust()));
  }

  private void addPolicy(List<Metric> metrics) {
    measures
        .budget()
        .report(measures.load().load())
        .forEach(
            (key, value) -> {
              double number = ((Number) value).doubleValue();
              metrics.add(Metric.of("approxifer_hedge_" + key, HedgeBudget.HELP.get(key), number));
            });
    metrics.add(
        Metric.of(
            "approxifer_predicted_wait_seconds",
            "How long who comes now is expected to wait for a worker.",
            crowd.predictedNanos() / 1e9));
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
    return changed(() -> handOut.more(worker));
  }

  /** The first task of a batch if there is one now, or null. */
  public Assignment poll(String worker) {
    return changed(() -> handOut.first(worker));
  }

  // ------------------------------------------------------------ what came

  /** A worker answered. Called once or more per assignment; only the first counts. */
  public void answered(Assignment assignment, Answer answer) {
    Query query = assignment.task.query;
    Reply reply = null;
    Unusable unusable = null;
    try { // not under the lock: what a worker says may be long
      answer.check();
      reply = query == null || query.framed ? Reply.parse(answer) : null;
    } catch (Unusable e) {
      unusable = e;
    }
    Reply parsed = reply;
    Unusable reason = unusable;
    locked(() -> jobs.answered(assignment, answer, parsed, reason));
  }

  /** A worker died, or TorchServe answered for it. */
  public void failed(Assignment assignment, int status, String message) {
    locked(() -> jobs.failed(assignment, status, message));
  }

  /** TorchServe put a job back that its worker never started (scale-down). */
  public void returned(Assignment assignment) {
    locked(() -> jobs.returned(assignment));
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
          holders.keep(workers);
          measures.trust().keep(workers);
          measures.blame().keep(workers);
          measures.budget().workers(workers.size());
          watchdog.observe(workers, registered, schedule.now());
          jobs.forget(watchdog::forgotten);
          new ArrayList<>(live).forEach(watchdog::check);
          backlog.sweep();
          probation.guard(workers);
        });
  }

  /** True once the model is unregistered and nobody waits any more. */
  public boolean finished() {
    return asked(() -> watchdog.closed() && live.isEmpty() && out.isEmpty());
  }

  // ------------------------------------------------------------- quarantine

  /** Sets the known query for probes; before any worker is handed one. */
  public void probeWith(KnownQuery known) {
    locked(() -> probation.probeWith(known));
  }

  /** Sets what restarts a worker by id. */
  public void onRestart(Consumer<String> restart) {
    locked(() -> probation.onRestart(restart));
  }

  /** Keeps a worker from clients by hand. */
  public ByHand quarantine(String worker) {
    return changed(() -> probation.quarantine(worker));
  }

  /** Gives a worker client work again by hand. */
  public ByHand readmit(String worker) {
    return changed(() -> probation.readmit(worker));
  }

  /** Workers that are kept from clients. */
  public Set<String> quarantined() {
    return asked(ledger::quarantined);
  }

  // ----------------------------------------------------------------- report

  /** Clients that wait for a worker. */
  public int waiting() {
    return asked(backlog::waiting);
  }

  /** How many more clients may wait. */
  public int capacity() {
    return asked(admission::capacity);
  }

  /** The state as plain maps and numbers, for GET /coded. */
  public Map<String, Object> report() {
    return asked(state::asMap);
  }

  /** The state as metrics of this model version. */
  public List<Metric> metrics() {
    return asked(state::asMetrics);
  }

  /** How many workers it takes to answer as the archive promises. */
  public int neededWorkers() {
    if (plan.mode() == Plan.Mode.CODED) {
      return plan.quorum();
    }
    boolean agreed = plan.check() != Plan.Check.NONE && plan.policy().verifyWait();
    return agreed ? plan.agree() : 1;
  }

  // ------------------------------------------------------------------- lock

  private <T> T asked(Supplier<T> question) {
    lock.lock();
    try {
      return question.get();
    } finally {
      lock.unlock();
    }
  }

  private void locked(Runnable change) {
    changed(
        () -> {
          change.run();
          return null;
        });
  }

  /** Makes a change; gives waiting workers what they may have now; then answers clients. */
  private <T> T changed(Supplier<T> change) {
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
