package org.approxifer.torchserve.sim;

import java.util.List;

/** The workers: runs begin and end here, processes die and come back. */
final class Floor {
  private final Time time;
  private final Agenda agenda;
  private final Work work;
  private final Worker[] workers;
  private Server server;

  /** Worker time of the first runs of requests, in ns. */
  private long ownNanos;

  /** Worker time of all further runs: copies, trials, retries. */
  private long copyNanos;

  Floor(Scenario scenario, Time time, Agenda agenda, Work work) {
    this.time = time;
    this.agenda = agenda;
    this.work = work;
    workers = new Worker[scenario.workers];
    for (int i = 0; i < workers.length; i++) {
      workers[i] = new Worker();
    }
  }

  int size() {
    return workers.length;
  }

  /** All workers ask a server for work; from now on it decides. */
  void open(Server server) {
    this.server = server;
    for (int worker = 0; worker < workers.length; worker++) {
      server.idle(worker);
    }
    work.plan(this, agenda);
  }

  /** Begins a run on an idle worker. */
  void start(int worker, List<Job> jobs) {
    start(worker, jobs, jobs.get(0).request().runs);
  }

  /** The same; {@code attempt} says which throw of the dice it is to be. */
  void start(int worker, List<Job> jobs, int attempt) {
    Fault.Start start = Work.start(worker, jobs, time.nanos(), attempt);
    long nanos = work.actual(start, work.healthy(start, jobs));
    begin(worker, new Run(worker, jobs, time.nanos(), work.fails(start)), nanos);
  }

  /** A worker runs its slow first call on nobody's request. */
  void warmUp(int worker) {
    begin(worker, new Run(worker, List.of(), time.nanos(), false), 0);
  }

  /** True if a worker's next run is its process's first, and slow. */
  boolean cold(int worker) {
    return workers[worker].firstCall > 0;
  }

  private void begin(int worker, Run run, long nanos) {
    Worker at = workers[worker];
    if (at.run != null || !at.up) {
      throw new IllegalStateException("worker " + worker + " is busy or down");
    }
    long all = nanos + at.firstCall;
    at.firstCall = 0;
    at.run = run;
    for (Job job : run.jobs) {
      boolean first = job.request().runs++ == 0;
      if (first) {
        job.request().begun = run.begun;
      }
      ownNanos += first ? all / run.jobs.size() : 0;
      copyNanos += first ? 0 : all / run.jobs.size();
    }
    agenda.at(time.nanos() + all, () -> end(run));
  }

  private void end(Run run) {
    if (!run.dead) {
      workers[run.worker].run = null;
      server.ended(run);
      server.idle(run.worker);
    }
  }

  /** Kills a worker's process; the next one's first run takes {@code firstCall} longer. */
  void kill(int worker, long restart, long firstCall) {
    Worker at = workers[worker];
    if (!at.up) {
      return;
    }
    at.up = false;
    Run run = at.run;
    at.run = null;
    agenda.at(
        time.nanos() + restart,
        () -> {
          at.up = true;
          at.firstCall = firstCall;
          server.idle(worker);
        });
    if (run == null) {
      server.left(worker);
    } else {
      run.dead = true;
      server.died(run);
    }
  }

  /** Worker time of copies, trials and retries over that of first runs. */
  double extraWork() {
    return ownNanos == 0 ? 0 : (double) copyNanos / ownNanos;
  }

  private static final class Worker {
    boolean up = true;
    Run run;
    long firstCall;
  }
}
