package org.approxifer.torchserve.ts;

import java.io.IOException;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import org.approxifer.torchserve.core.Clock;
import org.approxifer.torchserve.core.KnownQuery;
import org.approxifer.torchserve.core.Placement;
import org.approxifer.torchserve.core.Plan;
import org.approxifer.torchserve.core.Readiness;
import org.approxifer.torchserve.core.Router;
import org.approxifer.torchserve.core.Timers;
import org.pytorch.serve.wlm.Model;
import org.pytorch.serve.wlm.ModelManager;
import org.pytorch.serve.wlm.WorkerState;
import org.pytorch.serve.wlm.WorkerThread;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** One model version whose queue is ours. */
final class Attachment {
  private static final Logger LOGGER = LoggerFactory.getLogger(Attachment.class);
  private static final long PLACE_AGAIN_NANOS = 1_000_000_000L;

  private final Model model;
  private final CodedQueue queue;
  private final ModelFiles files;
  private final Placement placement;
  private final LostWorkers lost;
  private boolean unplaced;
  private long placeAgain;

  private Attachment(Model model, CodedQueue queue, ModelFiles files) {
    this.model = model;
    this.queue = queue;
    this.files = files;
    lost = new LostWorkers(name(model));
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

  /**
   * Swaps the model's queue for a coded one.
   *
   * @param known its archive's known query; null if it has none
   * @throws IOException if the workers' key cannot be written; the model is as it was then
   */
  static Attachment attach(Model model, Plan plan, KnownQuery known, Timers timers)
      throws IOException {
    ModelFiles files = ModelFiles.open(model);
    Router router =
        new Router(name(model), plan, Queues.limit(model), files.signer(), Clock.SYSTEM, timers);
    router.onRestart(worker -> Restart.worker(model, worker));
    if (known != null) {
      router.probeWith(known);
    }
    CodedQueue queue =
        new CodedQueue(model.getModelName(), model.getVersion(), router, Internals.lock(model));
    Attachment attachment = new Attachment(model, queue, files);
    Queues.swap(model, queue, timers); // last, so that nothing is left half done
    return attachment;
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
      if (worker != null) { // TorchServe copies the list without a lock
        workers.add(worker.getWorkerId());
      }
    }
    queue.router().guard(workers, registered);
    if (registered) {
      place(workers, System.nanoTime());
    }
  }

  /** Tells the workers their GPUs; again after a while if the file could not be written. */
  private void place(Set<String> workers, long now) {
    boolean changed = placement.update(workers);
    if (!changed && !(unplaced && now - placeAgain >= 0)) {
      return;
    }
    try {
      files.place(model, placement.byWorker());
      unplaced = false;
    } catch (IOException e) {
      if (!unplaced) { // each time would fill the log
        LOGGER.error("{}: workers keep TorchServe's own GPUs; it is tried again", name(model), e);
      }
      unplaced = true;
      placeAgain = now + PLACE_AGAIN_NANOS;
    }
  }

  /** Model and version, for messages. */
  static String name(Model model) {
    return model.getModelName() + " version " + model.getVersion();
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
    return live(model, models).size();
  }

  /** Ids of the workers that have loaded a model and are connected. */
  static Set<String> live(Model model, ModelManager models) {
    Set<String> live = new HashSet<>();
    for (WorkerThread worker : models.getWorkers(model.getModelVersionName())) {
      // TorchServe copies the list without a lock: there may be holes.
      if (worker != null && worker.getState() == WorkerState.WORKER_MODEL_LOADED) {
        live.add(worker.getWorkerId());
      }
    }
    return live;
  }

  /** As many as the code needs, but never more than the model was scaled to. */
  int neededWorkers() {
    return Math.max(1, Math.min(queue.router().neededWorkers(), model.getMinWorkers()));
  }

  /** Whether requests can be answered as the archive promises, and why not. */
  Readiness readiness(ModelManager models) {
    Set<String> usable = live(model, models);
    int live = usable.size();
    usable.removeAll(queue.router().quarantined());
    return Readiness.of(
        registered(models), model.getMinWorkers(), neededWorkers(), live, usable.size());
  }

  /** Plain maps and numbers for GET /coded. */
  Map<String, Object> report(ModelManager models) {
    Map<String, Object> report = new LinkedHashMap<>();
    report.put("model", model.getModelName());
    report.put("version", model.getVersion());
    NamedReadiness.describe(readiness(models), report);
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
}
