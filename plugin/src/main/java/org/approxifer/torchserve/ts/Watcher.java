package org.approxifer.torchserve.ts;

import com.google.gson.JsonParseException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.LockSupport;
import org.approxifer.torchserve.core.Clock;
import org.approxifer.torchserve.core.Plan;
import org.approxifer.torchserve.core.Timers;
import org.pytorch.serve.wlm.Model;
import org.pytorch.serve.wlm.ModelManager;
import org.pytorch.serve.wlm.ModelVersionedRefs;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The plugin's one thread: runs the timers, attaches models that carry a plan, and lets each router
 * look at its workers.
 */
final class Watcher implements Runnable {
  private static final Logger LOGGER = LoggerFactory.getLogger(Watcher.class);
  private static final AtomicBoolean STARTED = new AtomicBoolean();
  private static final Watcher INSTANCE = new Watcher();
  private static final long WATCH_NANOS = 20_000_000L;
  private static final long GUARD_NANOS = 50_000_000L;
  private static final String PLAN = "approxifer/plan.json";

  private final Timers timers = new Timers(Clock.SYSTEM);
  private final List<Attachment> attachments = new CopyOnWriteArrayList<>();

  /** Models that have been looked at. */
  private final Set<Model> seen = Collections.newSetFromMap(new IdentityHashMap<>());

  private Watcher() {}

  /** Starts the thread once, however often TorchServe instantiates the plugin. */
  static Watcher start() {
    if (STARTED.compareAndSet(false, true)) {
      Internals.verify();
      new MetricsPage(INSTANCE).register();
      Thread thread = new Thread(INSTANCE, "approxifer-watcher");
      thread.setDaemon(true);
      INSTANCE.timers.onEarlier(() -> LockSupport.unpark(thread));
      thread.start();
    }
    return INSTANCE;
  }

  /** Models whose queue is ours now. */
  List<Attachment> attachments() {
    return attachments;
  }

  @Override
  public void run() {
    long watch = System.nanoTime();
    long guard = watch;
    while (true) {
      safely(timers::runDue);
      long now = System.nanoTime();
      ModelManager models = ModelManager.getInstance();
      if (models != null && now - watch >= 0) {
        watch = now + WATCH_NANOS;
        safely(() -> watch(models));
      }
      if (models != null && now - guard >= 0) {
        guard = now + GUARD_NANOS;
        attachments.forEach(attachment -> safely(() -> guard(attachment, models)));
      }
      LockSupport.parkNanos(this, timers.untilNext(WATCH_NANOS));
    }
  }

  /** Without this thread nothing is late, attached, or ended: nothing that is thrown ends it. */
  private static void safely(Runnable work) {
    try {
      work.run();
    } catch (Throwable e) {
      LOGGER.error("the watcher goes on after an error", e);
    }
  }

  private void watch(ModelManager models) {
    Set<Model> present = Collections.newSetFromMap(new IdentityHashMap<>());
    for (Map.Entry<String, ModelVersionedRefs> entry : models.getAllModels()) {
      for (Map.Entry<String, Model> version : entry.getValue().getAllVersions()) {
        present.add(version.getValue());
      }
    }
    seen.retainAll(present);
    for (Model model : present) {
      if (seen.add(model)) {
        attach(model);
      }
    }
  }

  private void attach(Model model) {
    String name = model.getModelName() + " version " + model.getVersion();
    Path file = model.getModelDir().toPath().resolve(PLAN);
    if (!Files.isRegularFile(file)) {
      return;
    }
    try {
      Plan plan = Plan.parse(Files.readString(file));
      String refusal = Attachment.refusal(model);
      if (!plan.enabled()) {
        LOGGER.info("{} is served plainly: handler.approxifer.enabled is false", name);
      } else if (refusal != null) {
        LOGGER.error("{} is served plainly: {}", name, refusal);
      } else {
        attachments.add(Attachment.attach(model, plan, timers));
        LOGGER.info("{} is served coded", name);
      }
    } catch (IOException | JsonParseException e) {
      LOGGER.error("{} is served plainly: {}", name, e.getMessage());
    }
  }

  private void guard(Attachment attachment, ModelManager models) {
    attachment.guard(models);
    if (attachment.finished()) {
      attachments.remove(attachment);
      attachment.detach();
      LOGGER.info(
          "{} version {} is no longer served",
          attachment.model().getModelName(),
          attachment.model().getVersion());
    }
  }
}
