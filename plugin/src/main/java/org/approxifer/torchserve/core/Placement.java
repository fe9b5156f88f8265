package org.approxifer.torchserve.core;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * Which GPU each worker of a model computes on: one worker per GPU as long as there are enough,
 * also after scaling. TorchServe itself counts round-robin over all models' workers, so that a
 * model scaled from 4 to 2 and back has two workers on one GPU.
 */
public final class Placement {
  private final List<Integer> gpus;
  private Map<String, Integer> placed = new TreeMap<>();

  /**
   * @param gpus the device ids this model may use; empty for a CPU model
   */
  public Placement(List<Integer> gpus) {
    this.gpus = List.copyOf(gpus);
  }

  /**
   * Places the workers that are there now; those that stay keep their GPU.
   *
   * @return true if the placement changed
   */
  public boolean update(Set<String> workers) {
    if (gpus.isEmpty() || workers.equals(placed.keySet())) {
      return false;
    }
    Map<String, Integer> next = new TreeMap<>(placed);
    next.keySet().retainAll(workers);
    for (String worker : new TreeSet<>(workers)) {
      if (!next.containsKey(worker)) {
        next.put(worker, leastUsed(next));
      }
    }
    placed = next;
    return true;
  }

  /** GPU by worker id. */
  public Map<String, Integer> byWorker() {
    return Map.copyOf(placed);
  }

  private int leastUsed(Map<String, Integer> placed) {
    Map<Integer, Integer> uses = new HashMap<>();
    placed.values().forEach(gpu -> uses.merge(gpu, 1, Integer::sum));
    int best = gpus.get(0);
    for (int gpu : gpus) {
      if (uses.getOrDefault(gpu, 0) < uses.getOrDefault(best, 0)) {
        best = gpu;
      }
    }
    return best;
  }
}
