package org.approxifer.torchserve.ts;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.LinkedBlockingDeque;
import org.approxifer.torchserve.core.KnownQuery;
import org.approxifer.torchserve.core.Plan;
import org.approxifer.torchserve.core.Timers;
import org.pytorch.serve.job.Job;
import org.pytorch.serve.wlm.Model;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Finds out how a model version is to be served, and looks again where that may change.
 *
 * <pre>
 *  no plan yet ────────────▶ plainly; looked at again for a minute (it may be unpacked just now)
 *  plan cannot be read ────▶ refused: 503 with the reason   ┐ looked at again, less and less
 *  key cannot be written ──▶ plainly, an error in the log   ┘ often
 *  plan cannot be served ──▶ plainly, for good
 *  else ───────────────────▶ coded
 * </pre>
 *
 * <p>Called by the watcher's thread alone, but for {@link #refused}.
 */
final class Look {
  private static final Logger LOGGER = LoggerFactory.getLogger(Look.class);
  private static final String PLAN = "approxifer/plan.json";
  private static final long FIRST_PAUSE_NANOS = 100_000_000L;
  private static final long MAX_PAUSE_NANOS = 10_000_000_000L;
  private static final long NO_PLAN_NANOS = 60_000_000_000L;

  private final Model model;
  private final Timers timers;
  private final long began;
  private long next;
  private long pause = FIRST_PAUSE_NANOS;
  private boolean decided;
  private String said;
  private volatile String refused;

  Look(Model model, Timers timers, long now) {
    this.model = model;
    this.timers = timers;
    began = now;
    next = now;
  }

  /** Why the model's requests are refused now, or null. */
  String refused() {
    return refused;
  }

  /**
   * Looks if it is time to; returns the attachment if the model is coded from now on, else null.
   */
  Attachment look(long now) {
    if (decided || now - next < 0) {
      return null;
    }
    next = now + pause;
    pause = Math.min(2 * pause, MAX_PAUSE_NANOS);
    Path folder = model.getModelDir().toPath();
    Path file = folder.resolve(PLAN);
    if (refused == null && Files.notExists(file)) {
      decided = now - began >= NO_PLAN_NANOS;
      return null;
    }
    Plan plan;
    KnownQuery known;
    String refusal;
    try {
      plan = Plan.parse(Files.readString(file));
      refusal = Attachment.refusal(model);
      known = ProbeFile.read(folder);
    } catch (IOException e) {
      // Its message is a path, which is for the log alone.
      refuse("a file in approxifer/: " + e.getClass().getSimpleName(), e);
      return null;
    } catch (RuntimeException e) {
      refuse(e.getMessage() == null ? e.toString() : e.getMessage(), e);
      return null;
    }
    if (!plan.enabled() || refusal != null) {
      decided = true;
      plainly(refusal == null ? "handler.approxifer.enabled is false" : refusal, refusal != null);
      return null;
    }
    return attach(plan, known);
  }

  private Attachment attach(Plan plan, KnownQuery known) {
    try {
      Attachment attachment = Attachment.attach(model, plan, known, timers);
      decided = true;
      refused = null;
      LOGGER.info("{} is served coded", Attachment.name(model));
      return attachment;
    } catch (IOException e) {
      plainly(e.getMessage() + "; it is tried again", true);
      return null;
    } catch (RuntimeException e) {
      refuse(e.toString(), e);
      return null;
    }
  }

  private void plainly(String why, boolean wrong) {
    if (refused != null) {
      refused = null;
      said = null;
      Queues.swap(model, new LinkedBlockingDeque<Job>(Queues.limit(model)), timers);
    }
    if (!why.equals(said)) { // each time would fill the log
      said = why;
      if (wrong) {
        LOGGER.error("{} is served plainly: {}", Attachment.name(model), why);
      } else {
        LOGGER.info("{} is served plainly: {}", Attachment.name(model), why);
      }
    }
  }

  private void refuse(String why, Exception error) {
    if (refused == null || !why.equals(said)) {
      said = why;
      refused = "what its archive says cannot be read: " + why;
      String message = Attachment.name(model) + " is not served: " + refused;
      Queues.swap(model, new RefusingQueue(message, Queues.limit(model)), timers);
      LOGGER.error("{}; requests are answered 503, and it is tried again", message, error);
    }
  }
}
