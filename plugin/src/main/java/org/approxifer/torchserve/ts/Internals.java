package org.approxifer.torchserve.ts;

import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.lang.reflect.Field;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.LinkedBlockingDeque;
import java.util.concurrent.locks.ReentrantLock;
import org.pytorch.serve.job.GRPCJob;
import org.pytorch.serve.job.Job;
import org.pytorch.serve.wlm.Model;

/** The private fields of TorchServe 0.12.0 that the plugin needs. Never set, only read. */
final class Internals {
  private static final Field JOBS = field(Model.class, "jobsDb", ConcurrentMap.class);
  private static final Field LOCK = field(Model.class, "lock", ReentrantLock.class);
  private static final Field INFER =
      field(GRPCJob.class, "modelInferResponseObserver", StreamObserver.class);

  private Internals() {}

  /** Looks the fields up, so that another TorchServe fails at start and not in mid-request. */
  static void verify() {
    LOCK.getName();
    JOBS.getName();
    INFER.getName();
  }

  @SuppressWarnings("unchecked")
  static ConcurrentMap<String, LinkedBlockingDeque<Job>> jobs(Model model) {
    return (ConcurrentMap<String, LinkedBlockingDeque<Job>>) get(JOBS, model);
  }

  /** The lock that TorchServe holds around the polls of all of a model's workers. */
  static ReentrantLock lock(Model model) {
    return (ReentrantLock) get(LOCK, model);
  }

  /**
   * True if a KServe client has cancelled its ModelInfer call: {@code GRPCJob.isOpen()} asks the
   * observer of Predictions calls only.
   */
  static boolean inferCancelled(GRPCJob job) {
    return get(INFER, job) instanceof ServerCallStreamObserver<?> call && call.isCancelled();
  }

  private static Object get(Field field, Object owner) {
    try {
      return field.get(owner);
    } catch (IllegalAccessException e) {
      throw new IllegalStateException(e);
    }
  }

  private static Field field(Class<?> owner, String name, Class<?> type) {
    try {
      Field field = owner.getDeclaredField(name);
      if (!type.isAssignableFrom(field.getType())) {
        throw new NoSuchFieldException(name + " is a " + field.getType().getName());
      }
      field.setAccessible(true);
      return field;
    } catch (NoSuchFieldException e) {
      throw new IllegalStateException(
          "approxifer-plugin needs TorchServe 0.12.0: "
              + owner.getSimpleName()
              + "."
              + name
              + " is not a "
              + type.getSimpleName()
              + " there; install torchserve==0.12.0",
          e);
    }
  }
}
