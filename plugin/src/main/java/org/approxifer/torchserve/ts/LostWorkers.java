package org.approxifer.torchserve.ts;

import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import org.pytorch.serve.wlm.WorkerState;
import org.pytorch.serve.wlm.WorkerThread;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Ends the workers that TorchServe loses.
 *
 * <p>When TorchServe takes a busy worker away, {@code WorkerThread.shutdown} walks the map of its
 * jobs while the worker's own thread empties it, and often throws. The workers that were to go next
 * are then in no list, but go on polling, for ever.
 */
final class LostWorkers {
  private static final Logger LOGGER = LoggerFactory.getLogger(LostWorkers.class);
  private static final long PATIENCE_NANOS = 2_000_000_000L;

  private final String model;

  /** Monotonic time in ns at which each worker was last listed. */
  private final Map<WorkerThread, Long> lastListed = new IdentityHashMap<>();

  /**
   * @param model model and version, for messages
   */
  LostWorkers(String model) {
    this.model = model;
  }

  /** Notes who is listed now; ends who has not been for a while although nobody stopped it. */
  void update(List<WorkerThread> listed, long now) {
    for (WorkerThread worker : listed) {
      if (worker != null) { // the list is copied without a lock
        lastListed.put(worker, now);
      }
    }
    lastListed
        .entrySet()
        .removeIf(
            entry -> {
              boolean stopped = entry.getKey().getState() == WorkerState.WORKER_SCALED_DOWN;
              if (!stopped && now - entry.getValue() > PATIENCE_NANOS) {
                end(entry.getKey());
                return true;
              }
              return stopped && entry.getValue() != now;
            });
  }

  /** True if every worker there was is still listed, or has been stopped. */
  boolean none() {
    return lastListed.isEmpty();
  }

  private void end(WorkerThread worker) {
    LOGGER.warn(
        "worker {} of {} is ended: TorchServe lost it on removal", worker.getWorkerId(), model);
    try {
      worker.shutdown();
    } catch (RuntimeException e) {
      LOGGER.debug("{}: the same again; by then its thread has been told to end", model, e);
    }
  }
}
