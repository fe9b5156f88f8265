package org.approxifer.torchserve.ts;

import java.io.IOException;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.LinkedBlockingDeque;
import java.util.stream.IntStream;
import org.approxifer.torchserve.core.Clock;
import org.approxifer.torchserve.core.KnownQuery;
import org.approxifer.torchserve.core.Placement;
import org.approxifer.torchserve.core.Plan;
import org.approxifer.torchserve.core.Router;
import org.approxifer.torchserve.core.Timers;
import org.pytorch.serve.job.Job;
import org.pytorch.serve.util.messages.RequestInput;
import org.pytorch.serve.util.messages.WorkerCommands;
import org.pytorch.serve.wlm.Model;
import org.pytorch.serve.wlm.ModelManager;
import org.pytorch.serve.wlm.WorkerState;
import org.pytorch.serve.wlm.WorkerThread;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** One model version whose queue is ours. */
final class Attachment {
  private static final Logger LOGGER = LoggerFactory.getLogger(Attachment.class);
  private static final long[] DRAIN_AGAIN_MS = {20, 200, 2000};

  private final Model model;
  private final CodedQueue queue;
  private final ModelFiles files;
  private final Placement placement;
  private final LostWorkers lost = new LostWorkers();

  private Attachment(Model model, CodedQueue queue, ModelFiles files) {
    this.model = model;
    this.queue = queue;
    this.files = files;
    placement = new Placement(gpus(model));
  }

  /** Why a model cannot be attached although it has a plan, or null. */
  static String refusal(Model model) {
    if (model.isUseJobTicket()) {
      return "useJobTicket in its model-config.yaml cannot be coded";
    } else if (model.isSequenceBatching()) {
      return "sequenceBatching in its model-config.yaml cannot be coded";
    } else if (model.isContinuousBatching()) {
      return "continuousBatching in its model-config.yaml cannot be coded";
    } else if (model.isAsyncCommunication()) {
      return "asyncCommunication in its model-config.yaml cannot be coded";
    } else if (model.getParallelLevel() > 0) {
      return "with parallelType or torchrun in its model-config.yaml several processes compute each"
          + " request together, which cannot be coded";
    } else if (model.isWorkflowModel()) {
      // A node's answer goes to the next node whatever its status: only a plain worker's errors
      // end a workflow.
      return "it is a node of a workflow, which cannot be coded; register it as a model of its own";
    }
    return null;
  }

  /** Swaps the model's queue for a coded one and moves over what waits in the old one. */
  static Attachment attach(Model model, Plan plan, Timers timers) throws IOException {
    String name = model.getModelName();
    String version = model.getVersion();
    LinkedBlockingDeque<Job> old = Internals.jobs(model).get(Model.DEFAULT_DATA_QUEUE);
    int limit = old.size() + old.remainingCapacity();
    KnownQuery known = ProbeFile.read(model.getModelDir().toPath());
    ModelFiles files = ModelFiles.open(model);
    Router router =
        new Router(name + " version " + version, plan, limit, files.signer(), Clock.SYSTEM, timers);
    router.onRestart(worker -> Restart.worker(model, worker));
    if (known != null) {
      router.probeWith(known);
    }
    CodedQueue queue = new CodedQueue(name, version, router, Internals.lock(model));
    Internals.jobs(model).put(Model.DEFAULT_DATA_QUEUE, queue);
    drain(old, queue);
    for (long delay : DRAIN_AGAIN_MS) {
      // A request handler may have fetched the old queue just before the swap.
      timers.after(delay * 1_000_000, () -> drain(old, queue));
    }
    wake(model, old);
    return new Attachment(model, queue, files);
  }

  Model model() {
    return model;
  }

  Router router() {
    return queue.router();
  }

  /** Lets the router see the model's workers; to be called every 50 ms. */
  void guard(ModelManager models) {
    boolean registered = registered(models);
    // Another model may be registered under the same name and version by now.
    List<WorkerThread> threads =
        registered ? models.getWorkers(model.getModelVersionName()) : List.of();
    lost.update(threads, System.nanoTime());
    Set<String> workers = new HashSet<>();
    for (WorkerThread worker : threads) {
      workers.add(worker.getWorkerId());
    }
    queue.router().guard(workers, registered);
    try {
      if (registered && placement.update(workers)) {
        files.place(model, placement.byWorker());
      }
    } catch (IOException e) {
      LOGGER.error("{}: workers keep TorchServe's own GPUs", model.getModelName(), e);
    }
  }

  /** The devices TorchServe would choose from; {@code APPROXIFER_FAKE_GPUS} pretends, for tests. */
  private static List<Integer> gpus(Model model) {
    if (model.isHasCfgDeviceIds()) {
      return model.getDeviceIds();
    }
    String fake = System.getenv("APPROXIFER_FAKE_GPUS");
    int count = fake == null ? model.getNumCores() : Integer.parseInt(fake);
    return IntStream.range(0, count).boxed().toList();
  }

  /** True once the model version is gone, its workers too, and nobody waits for it. */
  boolean finished() {
    return queue.router().finished() && lost.none();
  }

  void detach() {
    try {
      files.close(model);
    } catch (IOException e) {
      // TorchServe deletes the model's directory with it.
    }
  }

  /** Workers that have loaded the model and are connected. */
  int liveWorkers(ModelManager models) {
    int live = 0;
    for (WorkerThread worker : models.getWorkers(model.getModelVersionName())) {
      live += worker.getState() == WorkerState.WORKER_MODEL_LOADED ? 1 : 0;
    }
    return live;
  }

  /** As many as the code needs, but never more than the model was scaled to. */
  int neededWorkers() {
    return Math.max(1, Math.min(queue.router().neededWorkers(), model.getMinWorkers()));
  }

  /** True if requests can be answered as the archive promises. */
  boolean ready(ModelManager models) {
    return liveWorkers(models) >= neededWorkers();
  }

  /** Plain maps and numbers for GET /coded. */
  Map<String, Object> report(ModelManager models) {
    Map<String, Object> report = new LinkedHashMap<>();
    report.put("model", model.getModelName());
    report.put("version", model.getVersion());
    report.put("ready", ready(models));
    report.put("live_workers", liveWorkers(models));
    report.put("needed_workers", neededWorkers());
    report.put("gpus", placement.byWorker());
    report.putAll(queue.router().report());
    return report;
  }

  private boolean registered(ModelManager models) {
    try {
      return models.getModel(model.getModelName(), model.getVersion()) == model;
    } catch (Exception e) { // ModelVersionNotFoundException, checked, from another class loader
      return false;
    }
  }

  private static void drain(LinkedBlockingDeque<Job> old, CodedQueue queue) {
    for (Job job = old.poll(); job != null; job = old.poll()) {
      if (job instanceof WakeUp) {
        old.offerLast(job); // for the worker that is still blocked on the old queue
        return;
      }
      queue.offer(job);
    }
  }

  /** A worker may be blocked on the old queue: a batch of jobs that nobody waits for frees it. */
  private static void wake(Model model, LinkedBlockingDeque<Job> old) {
    if (Internals.lock(model).isLocked()) {
      for (int i = 0; i < Math.max(1, model.getBatchSize()); i++) {
        old.offer(new WakeUp(model));
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
