package org.approxifer.torchserve.ts;

import java.util.Map;
import java.util.UUID;
import java.util.concurrent.LinkedBlockingDeque;
import org.approxifer.torchserve.core.Timers;
import org.pytorch.serve.job.Job;
import org.pytorch.serve.util.messages.RequestInput;
import org.pytorch.serve.util.messages.WorkerCommands;
import org.pytorch.serve.wlm.Model;

/** Puts another job queue into a model while TorchServe's threads use the one it has. */
final class Queues {
  private static final long[] DRAIN_AGAIN_MS = {20, 200, 2000};

  private Queues() {}

  /** How many jobs TorchServe would let wait for a model. */
  static int limit(Model model) {
    LinkedBlockingDeque<Job> now = Internals.jobs(model).get(Model.DEFAULT_DATA_QUEUE);
    return now.size() + now.remainingCapacity();
  }

  /** Swaps a model's queue and moves over what waits in the one it had. */
  static void swap(Model model, LinkedBlockingDeque<Job> fresh, Timers timers) {
    LinkedBlockingDeque<Job> old = Internals.jobs(model).put(Model.DEFAULT_DATA_QUEUE, fresh);
    drain(old, fresh);
    for (long delay : DRAIN_AGAIN_MS) {
      // A request handler may have fetched the old queue just before the swap.
      timers.after(delay * 1_000_000, () -> drain(old, fresh));
    }
    wake(model, old);
  }

  private static void drain(LinkedBlockingDeque<Job> old, LinkedBlockingDeque<Job> fresh) {
    for (Job job = old.poll(); job != null; job = old.poll()) {
      if (job instanceof WakeUp) {
        old.offerLast(job); // for the worker that is still blocked on the old queue
        return;
      }
      fresh.offer(job);
    }
  }

  /** A worker may be blocked on the old queue: a batch of jobs that nobody waits for frees it. */
  private static void wake(Model model, LinkedBlockingDeque<Job> old) {
    if (Internals.lock(model).isLocked()) {
      for (int i = 0; i < Math.max(1, model.getBatchSize()); i++) {
        old.offerLast(new WakeUp(model));
      }
    }
  }

  /** An empty request to a worker that waits on the replaced queue. Its answer goes nowhere. */
  private static final class WakeUp extends Job {
    WakeUp(Model model) {
      super(
          model.getModelName(),
          model.getVersion(),
          WorkerCommands.PREDICT,
          new RequestInput(UUID.randomUUID().toString()));
    }

    @Override
    public void response(
        byte[] body, CharSequence type, int status, String phrase, Map<String, String> headers) {}

    @Override
    public void sendError(int status, String error) {}

    @Override
    public boolean isOpen() {
      return true;
    }
  }
}
