package org.approxifer.torchserve.core;

import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.locks.LockSupport;

/**
 * What the router costs per request: offer, poll and answered, in µs of processor time of all
 * threads that take part.
 *
 * <p>With nothing waiting, each worker is a thread that waits in the router as TorchServe's do, so
 * that its waking up is in the figure. With requests waiting, one thread plays all workers, since
 * none of them waits. Quarantined workers wait in both. The clock is the program's own: timers and
 * the guard run as often as they would in a server.
 */
public final class RouterCost {
  private static final int BLOCK = 200;
  private static final long WARM_UP_NANOS = 1_500_000_000L;
  private static final long REQUEST_NANOS = 100_000L;
  private static final int TIMERS_EVERY = 20;
  private static final Answer ANSWER = answer();
  private static final ThreadMXBean THREADS = ManagementFactory.getThreadMXBean();

  private final Router router;
  private final Timers timers;
  private final List<String> workers = new ArrayList<>();
  private final Set<String> all = new HashSet<>();
  private final List<Thread> threads = new ArrayList<>();
  private final boolean idle;
  private volatile long now = 1_000_000_000L;
  private volatile boolean stop;
  private int turn;

  private RouterCost(String plan, int workers, int waiting, int quarantined) {
    Clock clock =
        new Clock() {
          @Override
          public long nanos() {
            return now;
          }

          @Override
          public long millis() {
            return now / 1_000_000;
          }
        };
    timers = new Timers(clock);
    router = new Router("m", Plan.parse(plan), 20_000, Signer.random(), clock, timers);
    idle = waiting == 0;
    List<String> kept = new ArrayList<>();
    for (int i = 0; i < workers; i++) {
      this.workers.add("w" + i);
    }
    for (int i = 0; i < quarantined; i++) {
      kept.add("q" + i);
    }
    all.addAll(this.workers);
    all.addAll(kept);
    for (int i = workers; i < quarantined; i++) {
      all.add("away" + i); // no more than half of the workers may be in quarantine
    }
    router.guard(all, true);
    for (String worker : kept) {
      if (router.quarantine(worker) != ByHand.DONE) {
        throw new IllegalStateException(worker + " is not quarantined");
      }
      start(worker);
    }
    if (idle) {
      this.workers.forEach(this::start);
    }
    int expected = kept.size() + (idle ? workers : 0);
    while (!Integer.valueOf(expected).equals(router.report().get("idle_workers"))) {
      LockSupport.parkNanos(100_000);
    }
    for (int i = 0; i < waiting; i++) {
      offer();
    }
  }

  /**
   * Returns µs per request, one figure for each block of requests.
   *
   * @param plan plan.json
   * @param workers that are not in quarantine
   * @param waiting requests that wait all the time
   * @param blocks how many figures, after a while that warms up
   */
  static double[] measure(String plan, int workers, int waiting, int quarantined, int blocks) {
    RouterCost cost = new RouterCost(plan, workers, waiting, quarantined);
    long warm = System.nanoTime() + WARM_UP_NANOS; // the JVM compiles meanwhile
    while (System.nanoTime() - warm < 0) {
      cost.block();
    }
    double[] costs = new double[blocks];
    for (int block = 0; block < blocks; block++) {
      costs[block] = cost.block();
    }
    cost.end();
    return costs;
  }

  private double block() {
    long begin = cpuNanos();
    for (int i = 0; i < BLOCK; i++) {
      request(i);
    }
    double micros = (cpuNanos() - begin) / 1e3 / BLOCK;
    router.guard(all, true);
    return micros;
  }

  /**
   * Prints lines "cost workers waiting quarantined µs µs …"; arguments: plan, blocks, then triples.
   */
  public static void main(String[] arguments) {
    int blocks = Integer.parseInt(arguments[1]);
    measure(arguments[0], 8, 0, 4, blocks);
    measure(arguments[0], 8, 100, 4, blocks);
    for (int i = 2; i < arguments.length; i += 3) {
      double[] costs =
          measure(
              arguments[0],
              Integer.parseInt(arguments[i]),
              Integer.parseInt(arguments[i + 1]),
              Integer.parseInt(arguments[i + 2]),
              blocks);
      StringBuilder line = new StringBuilder("cost ");
      line.append(String.join(" ", Arrays.asList(arguments).subList(i, i + 3)));
      for (double cost : costs) {
        line.append(' ').append(cost);
      }
      System.out.println(line);
    }
  }

  private void request(int number) {
    now += REQUEST_NANOS;
    if (number % TIMERS_EVERY == 0) {
      timers.runDue();
    }
    JavaClient client = offer();
    if (idle) {
      while (client.outcome() == null) {
        LockSupport.park(this);
      }
    } else {
      router.answered(router.poll(workers.get(turn++ % workers.size())), ANSWER);
    }
  }

  private JavaClient offer() {
    JavaClient client = new JavaClient(Thread.currentThread());
    router.offer(client);
    return client;
  }

  private long cpuNanos() {
    long sum = THREADS.getCurrentThreadCpuTime();
    for (Thread thread : threads) {
      sum += THREADS.getThreadCpuTime(thread.getId());
    }
    return sum;
  }

  private void start(String worker) {
    Thread thread =
        new Thread(
            () -> {
              try {
                while (!stop) {
                  router.answered(router.await(worker), ANSWER);
                }
              } catch (InterruptedException e) {
                return;
              }
            });
    thread.setDaemon(true);
    thread.start();
    threads.add(thread);
  }

  private void end() {
    stop = true;
    for (Thread thread : threads) {
      thread.interrupt();
      try {
        thread.join();
      } catch (InterruptedException e) {
        throw new IllegalStateException(e);
      }
    }
  }

  /** The answer to a raw job as a worker gives it, with a prediction. */
  private static Answer answer() {
    String header = "{\"kind\":\"raw\",\"sections\":[[\"answer\",2],[\"prediction\",2]]}";
    byte[] text = header.getBytes(StandardCharsets.UTF_8);
    ByteBuffer frame = ByteBuffer.allocate(8 + text.length + 4);
    frame.put(new byte[] {'A', 'X', 'F', '1'}).putInt(text.length).put(text).put(new byte[4]);
    return new Answer(frame.array(), "text/plain", 200, null, null);
  }
}
