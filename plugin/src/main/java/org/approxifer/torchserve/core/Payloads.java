package org.approxifer.torchserve.core;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.pytorch.serve.util.messages.InputParameter;
import org.pytorch.serve.util.messages.RequestInput;

/** Builds what a worker is sent for a task (docs/protocol.md). Client bodies are shared. */
public final class Payloads {
  /** Headers of this prefix are ours; a client's are not passed on. */
  static final String PREFIX = "x-approxifer-";

  static final String JOB = PREFIX + "job";

  // Nearly all jobs; workers know these texts and do not parse them.
  private static final String RAW = "{\"kind\":\"raw\",\"want\":false}";
  private static final String RAW_WANTED = "{\"kind\":\"raw\",\"want\":true}";

  private static final Gson GSON = new Gson();

  private final Signer signer;

  Payloads(Signer signer) {
    this.signer = signer;
  }

  /** A client's own request. */
  RequestInput raw(Query query) {
    RequestInput request = query.client().request();
    RequestInput payload = new RequestInput(request.getRequestId());
    payload.setHeaders(clean(request.getHeaders()));
    payload.setParameters(request.getParameters());
    if (query.framed) {
      sign(payload, query.wantsPrediction() ? RAW_WANTED : RAW);
    }
    return payload;
  }

  /** The job of a PARITY, ENCODE, CODED or DECODE task. */
  RequestInput of(Task task) {
    Group group = task.group;
    Job job = job(task.kind);
    switch (task.kind) {
      case PARITY -> job.size(group).with("coded", task.coded).members(group.members);
      case ENCODE -> job.size(group).members(group.waiting());
      case DECODE -> job.size(group).available(group.predictions).members(group.toDecode());
      default ->
          job.parameter("coded", group.coded.get(task.coded))
              .with("coded", task.coded)
              .requests(group.requestIds());
    }
    return job.signed();
  }

  /** The known query, with its prediction. */
  public RequestInput known(KnownQuery known) {
    Job job = job(Task.Kind.PROBE);
    job.payload.setHeaders(new HashMap<>(known.headers()));
    job.payload.setParameters(known.parameters());
    job.json.addProperty("want", true);
    return job.signed();
  }

  /** A job that has an id of its own. */
  public Job job(Task.Kind kind) {
    return new Job(kind);
  }

  private void sign(RequestInput payload, String job) {
    payload.getHeaders().put(JOB, signer.header(payload.getRequestId(), job));
  }

  private static Map<String, String> clean(Map<String, String> headers) {
    Map<String, String> kept = new HashMap<>(headers);
    kept.keySet().removeIf(name -> name.regionMatches(true, 0, PREFIX, 0, PREFIX.length()));
    return kept;
  }

  /** What a worker is told beside the parameters, while it is put together. */
  public final class Job {
    private final RequestInput payload = new RequestInput(UUID.randomUUID().toString());
    private final JsonObject json = new JsonObject();

    private Job(Task.Kind kind) {
      payload.setHeaders(new HashMap<>());
      json.addProperty("kind", kind.wire);
    }

    Job with(String key, int value) {
      json.addProperty(key, value);
      return this;
    }

    /** How many queries the group closed with. */
    public Job size(Group group) {
      return with("size", group.members.size());
    }

    /** Predictions by coded query index. */
    public Job available(Map<Integer, byte[]> predictions) {
      predictions.forEach((index, prediction) -> parameter("p" + index, prediction));
      json.add("available", GSON.toJsonTree(predictions.keySet()));
      return this;
    }

    /** Ids for the worker's log lines. */
    public Job requests(List<String> ids) {
      json.add("requests", GSON.toJsonTree(ids));
      return this;
    }

    public Job parameter(String name, byte[] value) {
      payload.addParameter(new Shared(name, value, null));
      return this;
    }

    /** The clients' own requests. */
    Job members(List<Query> queries) {
      JsonArray members = new JsonArray();
      queries.forEach(query -> members.add(member(query)));
      json.add("members", members);
      return requests(queries.stream().map(query -> query.requestId).toList());
    }

    private JsonObject member(Query query) {
      RequestInput request = query.client().request();
      JsonObject headers = new JsonObject();
      clean(request.getHeaders()).forEach(headers::addProperty);
      JsonArray names = new JsonArray();
      for (InputParameter parameter : request.getParameters()) {
        names.add(parameter.getName());
        String name = "m" + query.index + "/" + parameter.getName();
        payload.addParameter(new Shared(name, parameter.getValue(), parameter.getContentType()));
      }
      JsonObject member = new JsonObject();
      member.addProperty("index", query.index);
      member.add("headers", headers);
      member.add("parameters", names);
      return member;
    }

    public RequestInput signed() {
      sign(payload, json.toString());
      return payload;
    }
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
