package org.approxifer.torchserve.sim;

import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import org.approxifer.torchserve.core.Answer;
import org.approxifer.torchserve.core.Assignment;
import org.approxifer.torchserve.core.Outcome;
import org.approxifer.torchserve.core.PatientClient;
import org.approxifer.torchserve.core.Plan;
import org.approxifer.torchserve.core.Router;
import org.approxifer.torchserve.core.Signer;
import org.approxifer.torchserve.core.Timers;
import org.pytorch.serve.util.messages.InputParameter;
import org.pytorch.serve.util.messages.RequestInput;

/**
 * The real router, driven in virtual time: all that the simulator knows of it is here.
 *
 * <p>In the server idle workers are threads inside {@link Router#await}, and the router chooses
 * among them. Threads would make a run slow and no two alike, so idle workers are entered into the
 * router's own list of those who wait, by reflection; whoever was given something is taken out
 * after each call.
 */
final class Routed implements Server {
  private static final long GUARD_NANOS = 50_000_000L;
  private static final long FAR = Long.MAX_VALUE / 4;
  private static final byte[] ANSWER =
      frame("{\"kind\":\"raw\",\"sections\":[[\"answer\",2]]}", "42");
  private static final byte[] ERROR =
      frame(
          "{\"kind\":\"raw\",\"error\":{\"status\":500,\"message\":\"broken\"},\"sections\":[]}",
          "");

  private final Scenario scenario;
  private final Time time;
  private final Floor floor;
  private final Timers timers;
  private final Router router;
  private final String[] names;
  private final Set<String> all;
  private final Waiting waiting;
  private final Map<Integer, InputParameter> bodies = new HashMap<>();

  Routed(Scenario scenario, String plan, Time time, Agenda agenda, Floor floor) {
    this.scenario = scenario;
    this.time = time;
    this.floor = floor;
    timers = new Timers(time);
    Signer signer = new Signer("k".repeat(64));
    router = new Router("m", Plan.parse(plan), scenario.queue, signer, time, timers);
    waiting = new Waiting(router);
    names = new String[scenario.workers];
    for (int worker = 0; worker < names.length; worker++) {
      names[worker] = Integer.toString(9000 + worker);
    }
    all = new HashSet<>(List.of(names));
    guard(agenda);
  }

  private void guard(Agenda agenda) {
    router.guard(all, true);
    collect();
    agenda.at(time.nanos() + GUARD_NANOS, () -> guard(agenda));
  }

  @Override
  public void arrived(Request request) {
    router.offer(new Asking(request));
    collect();
  }

  @Override
  public void idle(int worker) {
    waiting.add(worker, names[worker]);
    router.more(""); // any change makes the router look at who waits
    collect();
  }

  @Override
  public void ended(Run run) {
    Answer answer = new Answer(run.fails ? ERROR : ANSWER, "text/plain", 200, null, null);
    for (Job job : run.jobs) {
      router.answered((Assignment) job.ticket(), answer);
    }
    collect();
  }

  @Override
  public void died(Run run) {
    for (Job job : run.jobs) {
      router.failed((Assignment) job.ticket(), 500, "Worker died.");
    }
    collect();
  }

  @Override
  public void left(int worker) {
    waiting.remove(worker);
    waiting.left(names[worker]);
  }

  @Override
  public long due() {
    long next = timers.untilNext(FAR);
    return next == FAR ? Long.MAX_VALUE : time.nanos() + next;
  }

  @Override
  public void tick() {
    timers.runDue();
    collect();
  }

  /** The router's own report, for {@link Simulation}'s reader. */
  Map<String, Object> report() {
    return router.report();
  }

  /** Starts what the router has given to workers that waited. */
  private void collect() {
    for (int worker = waiting.next(); worker >= 0; worker = waiting.next()) {
      Assignment first = waiting.remove(worker);
      List<Job> jobs = new ArrayList<>(scenario.batch);
      jobs.add(job(first));
      while (jobs.size() < scenario.batch) {
        Assignment more = router.more(names[worker]);
        if (more == null) {
          break;
        }
        jobs.add(job(more));
      }
      floor.start(worker, jobs);
    }
  }

  private static Job job(Assignment assignment) {
    return new Job(((Asking) assignment.client()).request, assignment);
  }

  private InputParameter body(double size) {
    int blocks = (int) Math.ceil(16 * size);
    return bodies.computeIfAbsent(
        blocks, n -> new InputParameter("body", new byte[256 * n], "image/png"));
  }

  private static byte[] frame(String header, String body) {
    byte[] head = header.getBytes(StandardCharsets.UTF_8);
    byte[] tail = body.getBytes(StandardCharsets.UTF_8);
    ByteBuffer frame = ByteBuffer.allocate(8 + head.length + tail.length);
    frame.put("AXF1".getBytes(StandardCharsets.US_ASCII)).putInt(head.length).put(head).put(tail);
    return frame.array();
  }

  /** A simulated request as the router's client. */
  private final class Asking extends PatientClient {
    final Request request;

    Asking(Request request) {
      super(new RequestInput("r" + request.index));
      this.request = request;
      request().addParameter(body(request.size));
    }

    @Override
    public void answer(Answer answer, Outcome outcome) {
      request.answer(200, time.nanos());
    }

    @Override
    public void error(int status, String message) {
      request.answer(status, time.nanos());
    }
  }

  /** The router's own list of workers that wait for work. */
  private static final class Waiting {
    private final ReentrantLock lock;
    private final Object handOut;
    private final Method left;
    private final List<Object> entries;
    private final List<Object> eligible;
    private final Constructor<?> constructor;
    private final Field assignment;
    private final Map<Object, Integer> workers = new HashMap<>();
    private final Map<Integer, Object> byWorker = new HashMap<>();

    Waiting(Router router) {
      try {
        lock = (ReentrantLock) field(Router.class, "lock").get(router);
        handOut = field(Router.class, "handOut").get(router);
        left = handOut.getClass().getDeclaredMethod("left", String.class);
        left.setAccessible(true);
        eligible = list(field(handOut.getClass(), "eligible").get(handOut));
        entries = list(field(handOut.getClass(), "waiters").get(handOut));
        Class<?> type = Class.forName(handOut.getClass().getName() + "$Waiter");
        constructor = type.getDeclaredConstructor(String.class, Condition.class);
        constructor.setAccessible(true);
        assignment = field(type, "assignment");
      } catch (ReflectiveOperationException e) {
        throw new IllegalStateException(
            "the router's hand-out is not as the simulator knows it", e);
      }
    }

    @SuppressWarnings("unchecked")
    private static List<Object> list(Object waiters) {
      return (List<Object>) waiters;
    }

    private static Field field(Class<?> type, String name) throws NoSuchFieldException {
      Field field = type.getDeclaredField(name);
      field.setAccessible(true);
      return field;
    }

    void add(int worker, String name) {
      try {
        Object waiter = constructor.newInstance(name, lock.newCondition());
        entries.add(waiter);
        eligible.add(waiter);
        workers.put(waiter, worker);
        byWorker.put(worker, waiter);
      } catch (ReflectiveOperationException e) {
        throw new IllegalStateException(e);
      }
    }

    /** Its process died while it waited: the server's thread is interrupted then. */
    void left(String worker) {
      try {
        left.invoke(handOut, worker);
      } catch (ReflectiveOperationException e) {
        throw new IllegalStateException(e);
      }
    }

    /** A worker that has been given something; -1 if none has. */
    int next() {
      for (Object waiter : entries) {
        if (given(waiter) != null) {
          return workers.get(waiter);
        }
      }
      return -1;
    }

    /** Takes a worker out and returns what it has been given, or null. */
    Assignment remove(int worker) {
      Object waiter = byWorker.remove(worker);
      if (waiter == null) {
        return null;
      }
      workers.remove(waiter);
      entries.remove(waiter);
      eligible.remove(waiter);
      return given(waiter);
    }

    private Assignment given(Object waiter) {
      try {
        return (Assignment) assignment.get(waiter);
      } catch (IllegalAccessException e) {
        throw new IllegalStateException(e);
      }
    }
  }
}
