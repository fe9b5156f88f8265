package org.approxifer.torchserve.ts;

import java.lang.reflect.Field;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.LinkedBlockingDeque;
import java.util.concurrent.locks.ReentrantLock;
import org.pytorch.serve.job.Job;
import org.pytorch.serve.wlm.Model;

/**
 * The two private fields of TorchServe 0.12.0's Model that the plugin needs. Never set, only read.
 */
final class Internals {
  private static final Field JOBS = field("jobsDb", ConcurrentMap.class);
  private static final Field LOCK = field("lock", ReentrantLock.class);

  private Internals() {}

  /** Looks the fields up, so that another TorchServe fails at start and not in mid-request. */
  static void verify() {
    LOCK.getName();
    JOBS.getName();
  }

  @SuppressWarnings("unchecked")
  static ConcurrentMap<String, LinkedBlockingDeque<Job>> jobs(Model model) {
    return (ConcurrentMap<String, LinkedBlockingDeque<Job>>) get(JOBS, model);
  }

  /** The lock that TorchServe holds around the polls of all of a model's workers. */
  static ReentrantLock lock(Model model) {
    return (ReentrantLock) get(LOCK, model);
  }

  private static Object get(Field field, Model model) {
    try {
      return field.get(model);
    } catch (IllegalAccessException e) {
      throw new IllegalStateException(e);
    }
  }

  private static Field field(String name, Class<?> type) {
    try {
      Field field = Model.class.getDeclaredField(name);
      if (!type.isAssignableFrom(field.getType())) {
        throw new NoSuchFieldException(name + " is a " + field.getType().getName());
      }
      field.setAccessible(true);
      return field;
    } catch (NoSuchFieldException e) {
      throw new IllegalStateException(
          "approxifer-plugin needs TorchServe 0.12.0: Model."
              + name
              + " is not a "
              + type.getSimpleName()
              + " there; install torchserve==0.12.0",
          e);
    }
  }
}
