package org.approxifer.torchserve.ts;

import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.LockSupport;
import org.approxifer.torchserve.core.Clock;
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

  private final Timers timers = new Timers(Clock.SYSTEM);
  private final List<Attachment> attachments = new CopyOnWriteArrayList<>();

  /** What was found at each model there is. */
  private final Map<Model, Look> looks = Collections.synchronizedMap(new IdentityHashMap<>());

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

  /** Models whose requests are refused now, and why. */
  Map<Model, String> refused() {
    Map<Model, String> refused = new IdentityHashMap<>();
    synchronized (looks) {
      looks.forEach(
          (model, look) -> {
            String why = look.refused();
            if (why != null) {
              refused.put(model, why);
            }
          });
    }
    return refused;
  }

  /** Readiness of a name, or null if none of its versions is coded or refused. */
  NamedReadiness readiness(String name) {
    return NamedReadiness.of(name, attachments, refused(), ModelManager.getInstance());
  }

  /** Readiness of each registered name of which a version is coded or refused. */
  Map<String, NamedReadiness> readiness() {
    return NamedReadiness.all(attachments, refused(), ModelManager.getInstance());
  }

  @Override
  public void run() {
    long watch = System.nanoTime();
    long guard = watch;
    while (true) {
      safely("timers", timers::runDue);
      long now = System.nanoTime();
      ModelManager models = ModelManager.getInstance();
      if (models != null && now - watch >= 0) {
        watch = now + WATCH_NANOS;
        safely("models", () -> watch(models, now));
      }
      if (models != null && now - guard >= 0) {
        guard = now + GUARD_NANOS;
        attachments.forEach(
            attachment ->
                safely(Attachment.name(attachment.model()), () -> guard(attachment, models)));
      }
      LockSupport.parkNanos(this, timers.untilNext(WATCH_NANOS));
    }
  }

  /** Without this thread nothing is late, attached, or ended: nothing that is thrown ends it. */
  private static void safely(String what, Runnable work) {
    try {
      work.run();
    } catch (Throwable e) {
      LOGGER.error("{}: the watcher goes on after an error", what, e);
    }
  }

  private void watch(ModelManager models, long now) {
    Set<Model> present = Collections.newSetFromMap(new IdentityHashMap<>());
    for (Map.Entry<String, ModelVersionedRefs> entry : models.getAllModels()) {
      for (Map.Entry<String, Model> version : entry.getValue().getAllVersions()) {
        present.add(version.getValue());
      }
    }
    looks.keySet().retainAll(present);
    // TorchServe puts a model back whose workers it could not end in time: it is coded already.
    attachments.forEach(attachment -> present.remove(attachment.model()));
    for (Model model : present) {
      Look look = looks.computeIfAbsent(model, fresh -> new Look(fresh, timers, now));
      safely(Attachment.name(model), () -> attach(look, now));
    }
  }

  private void attach(Look look, long now) {
    Attachment attachment = look.look(now);
    if (attachment != null) {
      attachments.add(attachment);
    }
  }

  private void guard(Attachment attachment, ModelManager models) {
    attachment.guard(models);
    if (attachment.finished()) {
      attachments.remove(attachment);
      attachment.detach();
      LOGGER.info("{} is no longer served", Attachment.name(attachment.model()));
    }
  }
}
