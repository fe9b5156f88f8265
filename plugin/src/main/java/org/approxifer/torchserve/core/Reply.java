package org.approxifer.torchserve.core;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonPrimitive;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A worker's reply frame (docs/protocol.md), taken apart. */
public final class Reply {
  private static final byte[] MAGIC = {'A', 'X', 'F', '1'};
  private static final int PREFIX = MAGIC.length + Integer.BYTES;

  /** The header of most replies: a raw answer, or one with its prediction. */
  private static final Pattern USUAL =
      Pattern.compile(
          "\\{\"kind\":\"raw\",\"sections\":\\[\\[\"answer\",(\\d{1,9})]"
              + "(?:,\\[\"prediction\",(\\d{1,9})])?]}");

  private static final int MAX_USUAL = 90;
  private static final Header USUAL_HEADER = new Header();
  private static final Gson GSON = new Gson();

  private final Header header;
  private final Map<String, byte[]> sections = new HashMap<>();
  private final Map<Integer, Answer> answers = new TreeMap<>();

  private Reply(Header header) {
    this.header = header;
  }

  /**
   * A refusal of a job, or of one query.
   *
   * @param status as in HTTP
   * @param message for the client
   */
  public record Refusal(Integer status, String message) {
    private void check(String key) throws Unusable {
      if (status == null || status < 100 || status > 999 || message == null) {
        throw malformed(key + ": expected a status and a message, found " + this);
      }
    }
  }

  /** One member's part of the reply to a decode job. */
  private record Item(
      String section,
      Integer status,
      String phrase,
      String contentType,
      Map<String, String> headers,
      Refusal error) {
    Answer answer(byte[] body, int outer) throws Unusable {
      String said = phrase == null || phrase.isEmpty() ? null : phrase;
      Answer answer = new Answer(body, contentType, status == null ? outer : status, said, headers);
      answer.check();
      return answer;
    }
  }

  /** The header, as Gson reads it; what is not there is null, or empty. */
  private static final class Header {
    JsonArray sections = new JsonArray();
    Refusal error;
    String erasure;
    boolean unloaded;
    Map<Integer, Refusal> errors = new TreeMap<>();
    Set<Integer> alone = Set.of();
    Set<Integer> wrong = Set.of();

    Set<Integer> suspected;

    JsonPrimitive agree;
    Map<Integer, Item> answers = Map.of();
  }

  /** Takes a frame apart; anything that is not one is {@link Unusable}. */
  static Reply parse(Answer answer) throws Unusable {
    byte[] body = answer.body();
    if (body == null || body.length < PREFIX) {
      throw malformed("not a frame: " + (body == null ? 0 : body.length) + " bytes");
    } else if (!Arrays.equals(body, 0, MAGIC.length, MAGIC, 0, MAGIC.length)) {
      throw malformed("not a frame: it does not start with AXF1");
    }
    int length = ByteBuffer.wrap(body, MAGIC.length, Integer.BYTES).getInt();
    if (length < 2 || length > body.length - PREFIX) {
      throw malformed("header of " + length + " bytes in a body of " + body.length);
    }
    int start = PREFIX + length;
    String text = new String(body, PREFIX, length, StandardCharsets.UTF_8);
    Matcher usual = USUAL.matcher(text);
    if (length <= MAX_USUAL && usual.matches()) {
      Reply reply = new Reply(USUAL_HEADER);
      int end = reply.cut(body, start, "answer", Integer.parseInt(usual.group(1)));
      if (usual.group(2) != null) {
        end = reply.cut(body, end, "prediction", Integer.parseInt(usual.group(2)));
      }
      return reply.whole(body, end);
    }
    try {
      Reply reply = new Reply(GSON.fromJson(text, Header.class));
      int end = start;
      for (JsonElement section : reply.header.sections) {
        JsonArray pair = section.getAsJsonArray();
        end = reply.cut(body, end, pair.get(0).getAsString(), pair.get(1).getAsInt());
      }
      reply.check(answer.status());
      return reply.whole(body, end);
    } catch (RuntimeException e) {
      throw malformed("header is not what was expected: " + e.getMessage());
    }
  }

  /** Copies a section and returns where the next one begins. */
  private int cut(byte[] body, int start, String name, int length) throws Unusable {
    int left = body.length - start;
    if (length < 0 || length > left) {
      throw malformed("section " + name + " of " + length + " bytes, " + left + " are left");
    }
    sections.put(name, Arrays.copyOfRange(body, start, start + length));
    return start + length;
  }

  private Reply whole(byte[] body, int end) throws Unusable {
    if (end != body.length) {
      throw malformed((body.length - end) + " bytes after the last section");
    }
    return this;
  }

  /** Checks what does not depend on the job, so that nothing is left half done later. */
  private void check(int status) throws Unusable {
    if (header.error != null) {
      header.error.check("error");
    }
    if (header.agree != null && !header.agree.isBoolean()) {
      throw malformed("agree: expected true or false, found " + header.agree);
    }
    for (Map.Entry<Integer, Refusal> refused : header.errors.entrySet()) {
      refused.getValue().check("errors");
    }
    for (Map.Entry<Integer, Item> entry : header.answers.entrySet()) {
      Item item = entry.getValue();
      if (item.error != null) {
        item.error.check("answers");
        header.errors.put(entry.getKey(), item.error);
      } else if (!has(item.section)) {
        throw malformed("answers: there is no section " + item.section);
      } else {
        answers.put(entry.getKey(), item.answer(section(item.section), status));
      }
    }
  }

  /**
   * True if the worker did what it was asked, or refused it for what was asked; or lacks weights,
   * which says nothing of its other jobs.
   */
  boolean well() {
    return (header.erasure == null || header.unloaded)
        && (header.error == null || header.error.status() < 500);
  }

  /** Why the job as a whole, or a raw job's query, was refused; or null. */
  Refusal error() {
    return header.error;
  }

  /** Why what the worker computed cannot be used, or null. */
  String erasure() {
    return header.erasure;
  }

  /** True if the worker cannot use the weights of its role. */
  boolean unloaded() {
    return header.unloaded;
  }

  /** What a comparison found, or null. */
  public Boolean agree() {
    return header.agree == null ? null : header.agree.getAsBoolean();
  }

  public boolean has(String section) {
    return sections.containsKey(section);
  }

  /** A section's bytes, or null if there is none. */
  public byte[] section(String name) {
    return sections.get(name);
  }

  /** A section's bytes, without which the reply cannot be used. */
  byte[] need(String name) throws Unusable {
    byte[] section = sections.get(name);
    if (section == null) {
      throw malformed("it has no section " + name);
    }
    return section;
  }

  /** Members of the group that were refused. */
  Map<Integer, Refusal> errors(Group group) throws Unusable {
    indices("errors", header.errors.keySet(), group.members.size());
    return header.errors;
  }

  /** Members of the group that were decoded. */
  Map<Integer, Answer> answers(Group group) throws Unusable {
    if (answers.isEmpty() && header.errors.isEmpty()) {
      throw malformed("the decode reply has no answers");
    }
    indices("answers", answers.keySet(), group.members.size());
    return answers;
  }

  /** Members of the group that cannot be coded with the others. */
  Set<Integer> alone(Group group) throws Unusable {
    return indices("alone", header.alone, group.members.size());
  }

  /** Coded queries, 0 to {@code end - 1}, whose answers were found wrong. */
  public Set<Integer> wrong(int end) throws Unusable {
    return indices("wrong", header.wrong, end);
  }

  /** Members of the group that are to be computed again. */
  public Set<Integer> suspected(Group group) throws Unusable {
    return indices("suspected", header.suspected, group.members.size());
  }

  private static Set<Integer> indices(String key, Set<Integer> found, int end) throws Unusable {
    if (found == null) {
      throw malformed("it has no list \"" + key + "\"");
    }
    for (Integer index : found) {
      if (index == null || index < 0 || index >= end) {
        throw malformed(key + ": expected 0 to " + (end - 1) + ", found " + index);
      }
    }
    return found;
  }

  private static Unusable malformed(String reason) {
    return new Unusable("malformed reply: " + reason);
  }
}
