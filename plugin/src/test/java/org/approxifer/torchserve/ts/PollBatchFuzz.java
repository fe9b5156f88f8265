package org.approxifer.torchserve.ts;

import java.io.File;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.approxifer.torchserve.core.Clock;
import org.approxifer.torchserve.core.Plan;
import org.approxifer.torchserve.core.Router;
import org.approxifer.torchserve.core.Signer;
import org.approxifer.torchserve.core.Timers;
import org.pytorch.serve.archive.model.Manifest;
import org.pytorch.serve.archive.model.ModelArchive;
import org.pytorch.serve.job.Job;
import org.pytorch.serve.util.ConfigManager;
import org.pytorch.serve.util.messages.RequestInput;
import org.pytorch.serve.util.messages.WorkerCommands;
import org.pytorch.serve.wlm.Model;

/**
 * Threads that call TorchServe's real {@code Model.pollBatch} on our queue while others interrupt
 * them: every job must be answered exactly once.
 */
public final class PollBatchFuzz {
  private static final int WORKERS = 4;
  private static final byte[] FRAME = frame();

  private final Model model = model();
  private final CodedQueue queue;
  private final AtomicLong answers = new AtomicLong();
  private final AtomicLong twice = new AtomicLong();
  private final AtomicLong interrupted = new AtomicLong();
  private final AtomicLong interruptedWithJobs = new AtomicLong();
  private final AtomicLong batched = new AtomicLong();
  private volatile boolean stop;

  private PollBatchFuzz(String plan, int batchSize) {
    model.setBatchSize(batchSize);
    model.setMaxBatchDelay(60_000);
    Timers timers = new Timers(Clock.SYSTEM);
    Router router =
        new Router("fuzz", Plan.parse(plan), 500, Signer.random(), Clock.SYSTEM, timers);
    queue = new CodedQueue("fuzz", "1.0", router, Internals.lock(model));
    Internals.jobs(model).put(Model.DEFAULT_DATA_QUEUE, queue);
    Thread thread =
        new Thread(
            () -> {
              while (!stop) {
                timers.runDue();
                LockSupport.parkNanos(500_000);
              }
            });
    thread.setDaemon(true);
    thread.start();
  }

  /** Sets up what TorchServe's classes expect of a server: its home and its log folder. */
  public static void configure(String modelServerHome, String logs) throws IOException {
    System.setProperty("model_server_home", modelServerHome);
    System.setProperty("LOG_LOCATION", logs);
    System.setProperty("METRICS_LOCATION", logs);
    ConfigManager.Arguments arguments = new ConfigManager.Arguments();
    arguments.setModelStore(logs);
    ConfigManager.init(arguments);
  }

  private static Model model() {
    Manifest manifest = new Manifest();
    manifest.getModel().setModelName("fuzz");
    manifest.getModel().setModelVersion("1.0");
    return new Model(new ModelArchive(manifest, null, new File("."), true), 500);
  }

  /** Returns counts: sent, answers, answeredTwice, left, interrupted, interruptedWithJobs, … */
  public static Map<String, Long> run(String plan, int batchSize, int jobs) throws Exception {
    return new PollBatchFuzz(plan, batchSize).run(jobs);
  }

  private Map<String, Long> run(int jobs) throws InterruptedException {
    List<Thread> workers = new ArrayList<>();
    for (int i = 0; i < WORKERS; i++) {
      String id = String.valueOf(9000 + i);
      Thread worker = new Thread(() -> work(id), "W-" + id + "-fuzz_1.0");
      worker.setDaemon(true);
      worker.start();
      workers.add(worker);
    }
    Thread interrupter = new Thread(() -> interrupt(workers));
    interrupter.setDaemon(true);
    interrupter.start();
    Random random = new Random(5);
    for (int sent = 0; sent < jobs; sent++) {
      while (queue.remainingCapacity() == 0) {
        LockSupport.parkNanos(20_000);
      }
      queue.offer(new Request());
      if (random.nextInt(3) == 0) {
        LockSupport.parkNanos(30_000);
      }
    }
    for (int i = 0; i < 500 && answers.get() < jobs; i++) {
      Thread.sleep(20);
    }
    Map<String, Long> result = new LinkedHashMap<>();
    result.put("sent", (long) jobs);
    result.put("answers", answers.get());
    result.put("twice", twice.get());
    result.put("left", 500L - queue.remainingCapacity());
    result.put("batched", batched.get());
    result.put("interrupted", interrupted.get());
    result.put("interruptedWithJobs", interruptedWithJobs.get());
    long[] deadlocked = ManagementFactory.getThreadMXBean().findDeadlockedThreads();
    result.put("deadlocked", deadlocked == null ? 0L : deadlocked.length);
    stop = true;
    interrupter.join();
    workers.forEach(Thread::interrupt);
    return result;
  }

  private void interrupt(List<Thread> workers) {
    Random random = new Random(9);
    while (!stop) {
      workers.get(random.nextInt(WORKERS)).interrupt();
      LockSupport.parkNanos(50_000);
    }
  }

  /** What WorkerThread and BatchAggregator do around pollBatch, with the network left out. */
  private void work(String id) {
    Random random = new Random(id.hashCode());
    Map<String, Job> jobs = new LinkedHashMap<>();
    while (!stop) {
      jobs.clear();
      try {
        model.pollBatch(id, 0, jobs);
        jobs.values().forEach(Job::setScheduled);
        batched.addAndGet(jobs.size() > 1 ? 1 : 0);
        int dice = random.nextInt(100);
        if (dice < 5) {
          Thread.sleep(3); // late
        } else if (dice > 97 && Thread.interrupted()) {
          throw new InterruptedException();
        }
        jobs.values().forEach(job -> job.response(FRAME, "text/plain", 200, null, null));
      } catch (InterruptedException e) {
        interrupted.incrementAndGet();
        interruptedWithJobs.addAndGet(jobs.isEmpty() ? 0 : 1);
        for (Job job : jobs.values()) {
          queue.addFirst(job); // scale-down puts back, and sometimes also reports an error
          if (random.nextInt(4) == 0) {
            job.sendError(500, "Worker died.");
          }
        }
      }
    }
  }

  private static byte[] frame() {
    String header = "{\"kind\":\"raw\",\"sections\":[[\"answer\",0]]}";
    byte[] text = header.getBytes(java.nio.charset.StandardCharsets.UTF_8);
    return java.nio.ByteBuffer.allocate(8 + text.length)
        .put(new byte[] {'A', 'X', 'F', '1'})
        .putInt(text.length)
        .put(text)
        .array();
  }

  private final class Request extends Job {
    private final AtomicInteger replies = new AtomicInteger();

    Request() {
      super("fuzz", "1.0", WorkerCommands.PREDICT, new RequestInput(UUID.randomUUID().toString()));
    }

    private void replied() {
      answers.incrementAndGet();
      twice.addAndGet(replies.incrementAndGet() > 1 ? 1 : 0);
    }

    @Override
    public void response(
        byte[] body, CharSequence type, int status, String phrase, Map<String, String> headers) {
      replied();
    }

    @Override
    public void sendError(int status, String error) {
      replied();
    }

    @Override
    public boolean isOpen() {
      return true;
    }
  }
}
