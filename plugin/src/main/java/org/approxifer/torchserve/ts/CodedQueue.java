package org.approxifer.torchserve.ts;

import java.util.concurrent.LinkedBlockingDeque;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import org.approxifer.torchserve.core.Assignment;
import org.approxifer.torchserve.core.Router;
import org.pytorch.serve.job.Job;
import org.pytorch.serve.util.messages.WorkerCommands;

/**
 * A model's job queue, as TorchServe's worker threads and request handlers call it.
 *
 * <p>{@code Model.pollBatch} calls the first poll of a batch, with an endless timeout, while it
 * holds the lock of the whole model, and releases it in its {@code finally} only if it still holds
 * it. The first poll here gives that lock up, so that all idle workers wait in the router at once
 * and it chooses among them. Later polls of a batch must return at once and must not throw, or the
 * jobs already taken would vanish.
 */
@SuppressWarnings("serial") // never serialised; the deque it replaces happens to be serialisable
final class CodedQueue extends LinkedBlockingDeque<Job> {
  private final String model;
  private final String version;
  private final Router router;
  private final ReentrantLock modelLock;

  CodedQueue(String model, String version, Router router, ReentrantLock modelLock) {
    this.model = model;
    this.version = version;
    this.router = router;
    this.modelLock = modelLock;
  }

  Router router() {
    return router;
  }

  /** Takes a client's request. Refusals are answered in our own words, so it is always true. */
  @Override
  public boolean offer(Job job) {
    WorkerCommands command = job.getCmd();
    if (command == WorkerCommands.STREAMPREDICT || command == WorkerCommands.STREAMPREDICT2) {
      job.sendError(501, "model " + model + " does not stream its answers: use Predictions");
    } else {
      router.offer(new JobClient(job));
    }
    return true;
  }

  /** TorchServe puts back what a worker had taken when it was scaled down. */
  @Override
  public void addFirst(Job job) {
    if (job instanceof HandedJob handed) {
      handed.returned();
    } else {
      offer(job);
    }
  }

  @Override
  public Job poll(long timeout, TimeUnit unit) throws InterruptedException {
    if (timeout != Long.MAX_VALUE) {
      return poll();
    }
    if (modelLock.isHeldByCurrentThread()) {
      modelLock.unlock();
    }
    return handed(router.await(worker()));
  }

  @Override
  public Job poll() {
    Assignment assignment = router.more(worker());
    return assignment == null ? null : handed(assignment);
  }

  @Override
  public int size() {
    // The superclass's constructor may ask before there is a router.
    return router == null ? 0 : router.waiting();
  }

  @Override
  public boolean isEmpty() {
    return size() == 0;
  }

  @Override
  public int remainingCapacity() {
    return router.capacity();
  }

  private Job handed(Assignment assignment) {
    return new HandedJob(model, version, router, assignment);
  }

  /**
   * TorchServe names a worker's thread "W-(port)-(model)_(version)"; the port is the worker's id.
   */
  private static String worker() {
    String name = Thread.currentThread().getName();
    int end = name.indexOf('-', 2);
    return name.startsWith("W-") && end > 2 ? name.substring(2, end) : name;
  }
}
