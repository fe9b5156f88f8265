package org.approxifer.torchserve.sim;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;

/**
 * TorchServe as it is: one queue, first come first served, a 503 where it is full; of idle workers
 * the one that has been idle longest is next. No deadline, nothing is sent twice.
 */
final class Plain implements Server {
  private final Scenario scenario;
  private final Time time;
  private final Floor floor;
  private final ArrayDeque<Request> queue = new ArrayDeque<>();
  private final ArrayDeque<Integer> idle = new ArrayDeque<>();

  Plain(Scenario scenario, Time time, Floor floor) {
    this.scenario = scenario;
    this.time = time;
    this.floor = floor;
  }

  @Override
  public void arrived(Request request) {
    if (idle.isEmpty() && queue.size() >= scenario.queue) {
      request.answer(503, time.nanos());
    } else {
      queue.add(request);
      handOut();
    }
  }

  @Override
  public void idle(int worker) {
    idle.add(worker);
    handOut();
  }

  private void handOut() {
    while (!queue.isEmpty() && !idle.isEmpty()) {
      List<Job> jobs = new ArrayList<>();
      while (jobs.size() < scenario.batch && !queue.isEmpty()) {
        jobs.add(new Job(queue.remove(), null));
      }
      floor.start(idle.remove(), jobs);
    }
  }

  @Override
  public void ended(Run run) {
    int status = run.fails ? 500 : 200;
    run.jobs.forEach(job -> job.request().answer(status, time.nanos()));
  }

  @Override
  public void died(Run run) {
    run.jobs.forEach(job -> job.request().answer(500, time.nanos()));
  }

  @Override
  public void left(int worker) {
    idle.remove(worker);
  }
}
