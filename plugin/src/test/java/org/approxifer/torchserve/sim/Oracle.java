package org.approxifer.torchserve.sim;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;

/**
 * What nobody can beat by much: it knows which workers are in trouble and which runs will be slow,
 * gives no work to the ones and has the others thrown again, and of two idle workers takes the one
 * that will be faster. First come first served; no work is done twice. New processes run their slow
 * first call on nobody's request.
 */
final class Oracle implements Server {
  private final Scenario scenario;
  private final Time time;
  private final Floor floor;
  private final Work work;
  private final ArrayDeque<Request> queue = new ArrayDeque<>();
  private final List<Integer> idle = new ArrayList<>();

  Oracle(Scenario scenario, Time time, Floor floor, Work work) {
    this.scenario = scenario;
    this.time = time;
    this.floor = floor;
    this.work = work;
  }

  @Override
  public void arrived(Request request) {
    if (queue.size() >= scenario.queue) {
      request.answer(503, time.nanos());
    } else {
      queue.add(request);
      handOut();
    }
  }

  @Override
  public void idle(int worker) {
    if (floor.cold(worker)) {
      floor.warmUp(worker);
    } else {
      idle.add(worker);
      handOut();
    }
  }

  private void handOut() {
    while (!queue.isEmpty() && !idle.isEmpty()) {
      List<Job> jobs = new ArrayList<>();
      for (Request request : queue) {
        if (jobs.size() < scenario.batch) {
          jobs.add(new Job(request, null));
        }
      }
      Choice best = null;
      int candidates = 0;
      for (int i = 0; i < idle.size() && candidates < 2; i++) {
        Choice choice = choice(idle.get(i), jobs);
        if (choice != null) {
          candidates++;
          best = best == null || choice.nanos < best.nanos ? choice : best;
        }
      }
      if (best == null && idle.size() < floor.size()) {
        return;
      }
      best = best == null ? new Choice(idle.get(0), 0, 0) : best;
      jobs.forEach(job -> queue.remove());
      idle.remove((Integer) best.worker);
      floor.start(best.worker, jobs, best.attempt);
    }
  }

  /** What a worker would make of the jobs; null if it is no place for them. */
  private Choice choice(int worker, List<Job> jobs) {
    int attempt = 0;
    Fault.Start start = Work.start(worker, jobs, time.nanos(), attempt);
    while (work.hit(start) && attempt < 8) {
      start = Work.start(worker, jobs, time.nanos(), ++attempt);
    }
    long nanos = work.healthy(start, jobs);
    return work.troubles(worker, time.nanos(), nanos)
        ? null
        : new Choice(worker, attempt, work.actual(start, nanos));
  }

  @Override
  public void ended(Run run) {
    run.jobs.forEach(job -> job.request().answer(run.fails ? 500 : 200, time.nanos()));
    // A worker may have been no place for what waits only until now.
    handOut();
  }

  @Override
  public void died(Run run) {
    run.jobs.forEach(job -> job.request().answer(500, time.nanos()));
  }

  @Override
  public void left(int worker) {
    idle.remove((Integer) worker);
  }

  private record Choice(int worker, int attempt, long nanos) {}
}
