package org.approxifer.torchserve.core;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/**
 * Which workers hold weights other than the model's own, such as a parity model's: for each role
 * one per {@code num_workers} workers, since whoever holds them has them in memory beside the
 * model's. A worker loads them with the first job that needs them; here it is only chosen. Guarded
 * by the router's lock.
 *
 * <p>A choice lasts, because loading takes time: until the worker is gone, died, is quarantined or
 * cannot load them, or is in trouble again and again while another is not.
 */
final class Holders {
  /** Longer than a slow worker is left alone before it is tried again. */
  private static final long PATIENCE_NANOS = 3_000_000_000L;

  private static final long UNABLE_NANOS = 30_000_000_000L;

  private final Plan plan;
  private final Ledger ledger;
  private final Schedule schedule;

  /** Workers by role. */
  private final Map<String, Set<String>> holders = new TreeMap<>();

  /** Workers whose process is there: it has asked for work. */
  private final Set<String> up = new HashSet<>();

  /** When a worker failed to load the weights of a role, by both. */
  private final Map<List<String>, Long> failures = new HashMap<>();

  Holders(Plan plan, Ledger ledger, Schedule schedule) {
    this.plan = plan;
    this.ledger = ledger;
    this.schedule = schedule;
    for (String role : plan.models()) {
      if (!role.equals(Plan.BASE)) {
        holders.put(role, new LinkedHashSet<>());
      }
    }
  }

  /** True if all workers are alike: the code needs no weights but the model's own. */
  boolean none() {
    return holders.isEmpty();
  }

  /** True if a worker may have a PARITY or CODED task: it holds the weights that it needs. */
  boolean may(Task task, String worker) {
    String role = plan.models().get(task.coded);
    return role.equals(Plan.BASE) || holders.get(role).contains(worker);
  }

  boolean isHolder(String worker) {
    for (Set<String> held : holders.values()) {
      if (held.contains(worker)) {
        return true;
      }
    }
    return false;
  }

  /** A worker asks for work. */
  void asked(String worker) {
    if (!none() && up.add(worker)) {
      ledger.of(worker); // it may be here before the guard knows
      update();
    }
  }

  /** A worker's process has ended, and what it held with it. */
  void left(String worker) {
    if (up.remove(worker)) {
      failures.keySet().removeIf(key -> key.get(1).equals(worker));
      update();
    }
  }

  /** A worker could not load the weights that a coded query needs; it is not asked for a while. */
  void failed(String worker, int coded) {
    String role = plan.models().get(coded);
    if (holders.containsKey(role)) {
      failures.put(List.of(role, worker), schedule.now());
      update();
    }
  }

  /** Notes which workers there are now, and chooses anew where that is necessary. */
  void keep(Set<String> workers) {
    ledger.keep(workers);
    update();
  }

  private void update() {
    if (none()) {
      return;
    }
    long now = schedule.now();
    up.removeIf(worker -> !ledger.has(worker));
    failures.values().removeIf(failed -> now - failed > UNABLE_NANOS);
    holders.forEach((role, held) -> update(role, held, now));
  }

  private void update(String role, Set<String> held, long now) {
    int wanted = (ledger.size() + plan.numWorkers() - 1) / plan.numWorkers();
    held.removeIf(worker -> !able(role, worker));
    for (String worker : new ArrayList<>(held)) {
      boolean troubled = ledger.of(worker).staysInTrouble(now, PATIENCE_NANOS);
      String other = candidate(role, held);
      if (other != null && (troubled || roles(worker).size() > 1 && roles(other).isEmpty())) {
        held.remove(worker);
        held.add(other);
      }
    }
    while (held.size() > wanted) {
      held.remove(new ArrayList<>(held).get(held.size() - 1));
    }
    for (String other = candidate(role, held);
        held.size() < wanted && other != null;
        other = candidate(role, held)) {
      held.add(other);
    }
  }

  /** The worker that is best given the weights of a role now, or null. */
  private String candidate(String role, Set<String> held) {
    String best = null;
    for (String worker : ledger.workers()) {
      boolean fit = able(role, worker) && !held.contains(worker);
      if (fit && !ledger.of(worker).inTrouble()) {
        best = best == null || roles(worker).size() < roles(best).size() ? worker : best;
      }
    }
    return best;
  }

  private boolean able(String role, String worker) {
    return up.contains(worker)
        && !ledger.of(worker).quarantined()
        && !failures.containsKey(List.of(role, worker));
  }

  /** The roles whose weights a worker is to hold. */
  List<String> roles(String worker) {
    List<String> roles = new ArrayList<>();
    holders.forEach(
        (role, held) -> {
          if (held.contains(worker)) {
            roles.add(role);
          }
        });
    return roles;
  }
}
