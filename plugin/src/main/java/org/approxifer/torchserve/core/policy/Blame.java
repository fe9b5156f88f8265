package org.approxifer.torchserve.core.policy;

import java.util.HashMap;
import java.util.Map;
import java.util.Set;

/**
 * Who is to blame for errors. A request that a worker failed is tried once by another: if that one
 * answers, the first is to blame; if both fail, it is the request. Whoever is to blame for two of
 * its last eight jobs is to get none.
 */
public final class Blame {
  private static final int OF = 8;
  private static final int TOO_OFTEN = 2;

  /** Where a fifth of all requests fails everywhere, retries make a fifth of extra work. */
  private static final double PER_REQUEST = .2;

  private static final double MAX_RETRIES = 10;

  /** By worker the last jobs, one bit each, set where it was to blame. */
  private final Map<String, Integer> jobs = new HashMap<>();

  private double retries = MAX_RETRIES;

  /** A request has come. */
  public void arrived() {
    retries = Math.min(MAX_RETRIES, retries + PER_REQUEST);
  }

  /** True if one more failed request may be tried again; it is paid for then. */
  public boolean mayRetry() {
    if (retries < 1) {
      return false;
    }
    retries--;
    return true;
  }

  /** A worker did a job, or is to blame that it did not; true if that is too often now. */
  public boolean did(String worker, boolean blamed) {
    int before = jobs.getOrDefault(worker, 0);
    if (!blamed && before == 0) {
      return false;
    }
    int last = (before << 1 | (blamed ? 1 : 0)) & (1 << OF) - 1;
    jobs.put(worker, last);
    return blamed && Integer.bitCount(last) >= TOO_OFTEN;
  }

  /** It begins anew. */
  public void forgive(String worker) {
    jobs.remove(worker);
  }

  /** Forgets workers that were scaled away. */
  public void keep(Set<String> workers) {
    jobs.keySet().retainAll(workers);
  }
}
