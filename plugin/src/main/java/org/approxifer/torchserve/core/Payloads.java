package org.approxifer.torchserve.core;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.pytorch.serve.util.messages.InputParameter;
import org.pytorch.serve.util.messages.RequestInput;

/** Builds what a worker is sent for a task (docs/protocol.md). Client bodies are shared. */
final class Payloads {
  /** Headers of this prefix are ours; a client's are not passed on. */
  static final String PREFIX = "x-approxifer-";

  static final String JOB = PREFIX + "job";

  // Nearly all jobs; workers know these texts and do not parse them.
  private static final String RAW = "{\"kind\":\"raw\",\"want\":false}";
  private static final String RAW_WANTED = "{\"kind\":\"raw\",\"want\":true}";

  private final Signer signer;
  private Probe probe;

  Payloads(Signer signer) {
    this.signer = signer;
  }

  void probe(Probe probe) {
    this.probe = probe;
  }

  RequestInput of(Task task) {
    return switch (task.kind) {
      case RAW, HEDGE -> raw(task);
      case PARITY -> members(task, task.group.members, task.group);
      case ENCODE -> members(task, task.group.waiting(), task.group);
      case CODED -> coded(task);
      case DECODE -> members(task, task.group.toDecode(), task.group);
      case SCREEN -> screen(task, task.group);
      case COMPARE -> compare(task);
      case PROBE -> probe(task);
    };
  }

  private RequestInput raw(Task task) {
    RequestInput request = task.query.client.request();
    RequestInput payload = new RequestInput(request.getRequestId());
    payload.setHeaders(clean(request.getHeaders()));
    payload.setParameters(request.getParameters());
    if (task.query.client.framed()) {
      boolean want = task.query.group != null || task.query.check != null;
      sign(payload, want ? RAW_WANTED : RAW);
    }
    return payload;
  }

  private RequestInput coded(Task task) {
    RequestInput payload = new RequestInput(UUID.randomUUID().toString());
    payload.setHeaders(new HashMap<>());
    payload.addParameter(new Shared("coded", task.group.coded.get(task.coded), null));
    JsonObject job = job(task);
    job.addProperty("coded", task.coded);
    job.add("requests", requests(task.group.members));
    sign(payload, job);
    return payload;
  }

  private RequestInput screen(Task task, Group group) {
    RequestInput payload = new RequestInput(UUID.randomUUID().toString());
    payload.setHeaders(new HashMap<>());
    JsonObject job = job(task);
    job.addProperty("size", group.members.size());
    job.add("available", available(payload, group));
    job.add("requests", requests(group.members));
    sign(payload, job);
    return payload;
  }

  private RequestInput compare(Task task) {
    RequestInput payload = new RequestInput(UUID.randomUUID().toString());
    payload.setHeaders(new HashMap<>());
    payload.addParameter(new Shared("first", task.comparison.first, null));
    payload.addParameter(new Shared("second", task.comparison.second, null));
    sign(payload, job(task));
    return payload;
  }

  private RequestInput probe(Task task) {
    RequestInput payload = new RequestInput(UUID.randomUUID().toString());
    payload.setHeaders(new HashMap<>(probe.headers()));
    payload.setParameters(probe.parameters());
    JsonObject job = job(task);
    job.addProperty("want", true);
    sign(payload, job);
    return payload;
  }

  private RequestInput members(Task task, List<Query> members, Group group) {
    RequestInput payload = new RequestInput(UUID.randomUUID().toString());
    payload.setHeaders(new HashMap<>());
    JsonObject job = job(task);
    job.addProperty("size", group.members.size());
    if (task.kind == Task.Kind.PARITY) {
      job.addProperty("coded", task.coded);
    } else if (task.kind == Task.Kind.DECODE) {
      job.add("available", available(payload, group));
    }
    JsonArray described = new JsonArray();
    for (Query query : members) {
      described.add(member(payload, query));
    }
    job.add("members", described);
    job.add("requests", requests(members));
    sign(payload, job);
    return payload;
  }

  private static JsonArray available(RequestInput payload, Group group) {
    JsonArray available = new JsonArray();
    group.predictions.forEach(
        (index, prediction) -> {
          available.add(index);
          payload.addParameter(new Shared("p" + index, prediction, null));
        });
    return available;
  }

  private static JsonObject member(RequestInput payload, Query query) {
    RequestInput request = query.client.request();
    JsonObject member = new JsonObject();
    member.addProperty("index", query.index);
    JsonObject headers = new JsonObject();
    clean(request.getHeaders()).forEach(headers::addProperty);
    member.add("headers", headers);
    JsonArray names = new JsonArray();
    for (InputParameter parameter : request.getParameters()) {
      names.add(parameter.getName());
      payload.addParameter(
          new Shared(
              "m" + query.index + "/" + parameter.getName(),
              parameter.getValue(),
              parameter.getContentType()));
    }
    member.add("parameters", names);
    return member;
  }

  /** Ids for the worker's log lines; the job itself has one of its own. */
  private static JsonArray requests(List<Query> queries) {
    JsonArray ids = new JsonArray();
    queries.forEach(query -> ids.add(query.requestId()));
    return ids;
  }

  private static JsonObject job(Task task) {
    JsonObject job = new JsonObject();
    job.addProperty("kind", task.kind.wire);
    return job;
  }

  private void sign(RequestInput payload, JsonObject job) {
    sign(payload, job.toString());
  }

  private void sign(RequestInput payload, String job) {
    payload.getHeaders().put(JOB, signer.header(payload.getRequestId(), job));
  }

  private static Map<String, String> clean(Map<String, String> headers) {
    Map<String, String> kept = new HashMap<>(headers);
    kept.keySet().removeIf(name -> name.regionMatches(true, 0, PREFIX, 0, PREFIX.length()));
    return kept;
  }

  /** A parameter that shares its bytes; TorchServe's own copies them. */
  private static final class Shared extends InputParameter {
    private final String name;
    private final byte[] value;
    private final CharSequence contentType;

    Shared(String name, byte[] value, CharSequence contentType) {
      this.name = name;
      this.value = value;
      this.contentType = contentType;
    }

    @Override
    public String getName() {
      return name;
    }

    @Override
    public byte[] getValue() {
      return value;
    }

    @Override
    public CharSequence getContentType() {
      return contentType;
    }
  }
}
