package org.approxifer.torchserve.ts;

import java.util.Optional;
import org.pytorch.serve.wlm.Model;
import org.pytorch.serve.wlm.ModelManager;
import org.pytorch.serve.wlm.WorkerThread;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Ends a worker's process; TorchServe starts it again by itself, with the same id. */
final class Restart {
  private static final Logger LOGGER = LoggerFactory.getLogger(Restart.class);
  private static final String SCRIPT = "model_service_worker.py";

  private Restart() {}

  static void worker(Model model, String id) {
    for (WorkerThread thread : ModelManager.getInstance().getWorkers(model.getModelVersionName())) {
      if (thread.getWorkerId().equals(id)) {
        end(thread.getPid(), "worker " + id + " of " + Attachment.name(model));
      }
    }
  }

  private static void end(int pid, String worker) {
    // A worker that has not started reports -1, and a pid may belong to somebody else by now.
    ProcessHandle process = pid > 1 ? ProcessHandle.of(pid).orElse(null) : null;
    if (process != null && isWorkerOfOurs(process)) {
      LOGGER.warn("{} (pid {}) is restarted", worker, pid);
      process.destroyForcibly();
    } else {
      LOGGER.error("{} is not restarted: pid {} is not a worker of this server", worker, pid);
    }
  }

  /** A launcher (cpu_launcher_enable) stands between this server and its workers. */
  private static boolean isBelow(ProcessHandle process, long ancestor) {
    Optional<ProcessHandle> parent = process.parent();
    while (parent.isPresent() && parent.get().pid() != ancestor) {
      parent = parent.get().parent();
    }
    return parent.isPresent();
  }

  private static boolean isWorkerOfOurs(ProcessHandle process) {
    return isBelow(process, ProcessHandle.current().pid())
        && process.info().commandLine().orElse(SCRIPT).contains(SCRIPT);
  }
}
