package org.approxifer.torchserve.core;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.List;
import java.util.Map;

/**
 * The life of a group.
 *
 * <pre>
 *  systematic:  join … close ─▶ parity jobs in idle slots ─▶ a member is late ─▶ quorum ─▶ decode
 *  coded:       join … close ─▶ encode ─▶ N+1 coded jobs ─▶ all, or a quorum once late ─▶ decode
 * </pre>
 */
final class GroupFlow implements Flow {
  private static final int MOST_RESENDS = 3;
  private static final int MOST_DEATHS = 2;

  private final Router router;
  private final Plan plan;
  private final Settlement settlement;
  private final QueryFlow queries;
  private final Decoded decoded;
  private Group filling;

  GroupFlow(Router router, Settlement settlement, QueryFlow queries) {
    this.router = router;
    this.plan = router.plan;
    this.settlement = settlement;
    this.queries = queries;
    decoded = new Decoded(router, settlement);
  }

  /** Adds a query to the group that is filling, which closes at K queries or after the delay. */
  void join(Query query) {
    if (filling == null) {
      router.counters.groups++;
      Group group = new Group(plan);
      if (plan.check() == Plan.Check.SCREEN) {
        router.screens.begin(group);
      }
      filling = group;
      group.timer = router.after(plan.policy().groupDelayNanos(), () -> close(group));
    }
    filling.add(query);
    if (filling.screen != null) {
      query.check = new Check(plan.agree());
    }
    if (plan.mode() == Plan.Mode.SYSTEMATIC) {
      router.enqueue(Task.raw(query));
    }
    if (filling.members.size() == plan.queries()) {
      close(filling);
    }
  }

  int open() {
    return filling == null ? 0 : 1;
  }

  private void close(Group group) {
    if (group.closed) {
      return;
    }
    group.closed = true;
    group.timer.cancel();
    filling = null;
    router.counters.groupFill.record(group.members.size());
    if (group.screen != null) {
      router.screens.closed(group);
      reconstruct(group);
    } else if (group.settled()) {
      group.release();
    } else if (plan.check() == Plan.Check.LOCATE && router.ledger.present() < plan.quorum()) {
      queries.goAlone(group); // each coded job wants a worker of its own
    } else if (plan.mode() == Plan.Mode.CODED) {
      router.enqueue(Task.ofGroup(Task.Kind.ENCODE, group, -1));
    } else {
      for (int parity = plan.queries(); parity < plan.numWorkers(); parity++) {
        if (router.parityWork.tryTake()) {
          router.enqueue(Task.ofGroup(Task.Kind.PARITY, group, parity));
        }
      }
      reconstruct(group);
    }
  }

  /** The reply to a parity, encode, coded or decode job. */
  @Override
  public void answered(Assignment assignment, Answer answer, Reply reply)
      throws Reply.MalformedReply {
    Task task = assignment.task;
    JsonObject error = reply.object("error");
    if (error != null) {
      failed(task);
    } else if (task.kind == Task.Kind.ENCODE) {
      encoded(assignment, reply);
    } else if (task.kind == Task.Kind.DECODE) {
      decoded.settle(task.group, answer, reply);
    } else if (reply.text("erasure") != null || !reply.has("prediction")) {
      String erasure = reply.text("erasure");
      if (reply.header.has("unloaded")) {
        router.holders.failed(assignment.worker, task.coded);
      }
      erased(assignment, erasure == null ? "the reply has no prediction" : erasure);
    } else {
      coded(task.group, task.coded, assignment.worker, reply.section("prediction"));
    }
  }

  private void coded(Group group, int index, String worker, byte[] prediction) {
    if (group.screen != null) {
      router.screens.entered(group, index, worker, prediction);
    } else {
      group.gave.put(index, worker);
      predicted(group, index, prediction);
    }
  }

  /** A prediction of a coded query (of a systematic group: a member's or a parity's) came. */
  void predicted(Group group, int index, byte[] prediction) {
    if (group.settled() || group.broken) {
      return;
    }
    group.predictions.put(index, prediction);
    if (plan.mode() == Plan.Mode.CODED) {
      decodeIfReady(group);
    } else {
      reconstruct(group);
    }
  }

  private void encoded(Assignment assignment, Reply reply) throws Reply.MalformedReply {
    Group group = assignment.task.group;
    if (!group.coded.isEmpty() || group.broken || group.settled()) {
      return; // a second encode job, sent because the first was late
    }
    JsonObject errors = reply.object("errors");
    if (errors != null) {
      for (Map.Entry<String, JsonElement> entry : errors.entrySet()) {
        JsonObject error = entry.getValue().getAsJsonObject();
        settlement.error(
            group.members.get(Integer.parseInt(entry.getKey())),
            error.get("status").getAsInt(),
            error.get("message").getAsString());
      }
    }
    if (reply.header.has("alone")) {
      for (JsonElement index : reply.header.getAsJsonArray("alone")) {
        Query query = group.members.get(index.getAsInt());
        query.solo = true;
        queries.checkAlone(query);
        router.enqueueFirst(Task.raw(query));
      }
    }
    if (group.toDecode().isEmpty()) {
      return;
    }
    for (int index = 0; index < plan.numWorkers(); index++) {
      if (!reply.has("coded" + index)) {
        throw new Reply.MalformedReply("the encode reply has no section coded" + index);
      }
      group.coded.put(index, reply.section("coded" + index));
      router.enqueue(Task.ofGroup(Task.Kind.CODED, group, index));
    }
    // Coded jobs that no worker picks are late too, if only after most of the deadline.
    group.timer = router.after(plan.policy().deadlineNanos() / 2, () -> quorumWillDo(group));
  }

  private void quorumWillDo(Group group) {
    group.late = true;
    decodeIfReady(group);
  }

  /** A member's raw job is late. */
  void late(Query query) {
    if (query.group.screen != null && query.group.screen.lacks(query.index)) {
      router.screens.jobLate(query.group);
    }
    reconstruct(query.group);
  }

  /** The group cannot be coded any more. */
  void breakUp(Group group) {
    group.broken = true;
    router.screens.giveUp(group);
  }

  /** Decodes a fully coded group once all answers are in, or a quorum is and the rest is late. */
  void decodeIfReady(Group group) {
    if (plan.mode() != Plan.Mode.CODED || group.decoding || group.broken || group.settled()) {
      return;
    }
    boolean stalled = plan.check() == Plan.Check.LOCATE && group.stalled(router.ledger);
    group.late |= stalled;
    if (group.decodable()) {
      group.decoding = true;
      router.enqueue(Task.ofGroup(Task.Kind.DECODE, group, -1));
    } else if (stalled) {
      queries.goAlone(group);
    }
  }

  /** Decodes the late members of a systematic group as soon as what came suffices. */
  void reconstruct(Group group) {
    if (plan.mode() != Plan.Mode.SYSTEMATIC
        || !plan.policy().reconstruct()
        || !group.closed
        || group.broken
        || !group.mayDecode()) {
      return;
    }
    List<Query> late = group.waiting();
    late.removeIf(query -> !query.late);
    decode(group, late);
  }

  /** Has members of a systematic group decoded from the answers of the others. */
  void decode(Group group, List<Query> queries) {
    boolean wanted = false;
    for (Query query : queries) {
      if (!query.settled && !query.decoding) {
        query.decoding = true;
        wanted = true;
      }
    }
    if (wanted && !group.predictions.isEmpty()) {
      router.enqueue(Task.ofGroup(Task.Kind.DECODE, group, -1));
    }
  }

  @Override
  public void died(Assignment assignment) {
    Task task = assignment.task;
    switch (task.kind) {
      case PARITY -> {
        router.holders.failed(assignment.worker, task.coded); // loading may be what killed it
        breakUp(task.group);
      }
      case CODED -> {
        if (++task.deaths < MOST_DEATHS) {
          router.enqueueFirst(queries.again(assignment));
          decodeIfReady(task.group); // perhaps no other worker may have it
        } else {
          failed(task);
        }
      }
      default -> {
        // The job held its members' own requests, and one of them may be what kills workers. A
        // second copy, sent because the first was late, says nothing new of them.
        if (!task.group.broken) {
          (task.kind == Task.Kind.ENCODE ? task.group.waiting() : task.group.toDecode())
              .forEach(query -> query.deaths++);
        }
        queries.goAlone(task.group);
      }
    }
  }

  @Override
  public void erased(Assignment assignment, String reason) {
    queries.noteErasure(assignment, reason);
    failed(assignment.task);
  }

  @Override
  public void failed(Assignment assignment, int status, String message) {
    failed(assignment.task);
  }

  /** The job will not be done: the group goes on without, or its members go alone. */
  private void failed(Task task) {
    Group group = task.group;
    switch (task.kind) {
      case PARITY -> {
        if (group.screen != null) {
          router.screens.lost(group, task.coded);
        }
        group.lost.add(task.coded);
      }
      case CODED -> {
        group.lost.add(task.coded);
        if (group.hopeless() && !group.settled()) {
          queries.goAlone(group);
        }
        decodeIfReady(group);
      }
      default -> {
        if (plan.mode() == Plan.Mode.CODED) {
          queries.goAlone(group);
        } else {
          breakUp(group); // hedges of its members go on
        }
      }
    }
  }

  @Override
  public void returned(Task task) {
    if (!task.dead()) {
      router.enqueueFirst(task);
    }
  }

  @Override
  public void late(Assignment assignment) {
    Task task = assignment.task;
    if (task.kind == Task.Kind.CODED) {
      quorumWillDo(task.group);
    } else if (task.kind == Task.Kind.PARITY) {
      if (!task.dead()) {
        router.screens.jobLate(task.group);
      }
      if (!task.dead() && plan.policy().idempotent() && router.extra.tryTake()) {
        router.enqueueFirst(queries.again(assignment));
      }
    } else {
      resend(assignment);
    }
  }

  /** All clients of a group wait for its encode or decode job: it is hedged like a raw one. */
  private void resend(Assignment late) {
    Group group = late.task.group;
    if (late.done
        || late.task.dead()
        || late.task.kind == Task.Kind.ENCODE && !group.coded.isEmpty()
        || group.broken
        || !plan.policy().idempotent()
        || group.resends >= MOST_RESENDS) {
      return;
    }
    if (queries.mayCostExtra(group.members.get(0))) {
      group.resends++;
      router.enqueueFirst(queries.again(late));
    } else {
      router.counters.hedgesDenied++;
      router.after(router.lateness.nanos() / 2, () -> resend(late));
    }
  }
}
