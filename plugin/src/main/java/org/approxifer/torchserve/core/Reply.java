package org.approxifer.torchserve.core;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/** A worker's reply frame (docs/protocol.md), taken apart. */
final class Reply {
  private static final byte[] MAGIC = {'A', 'X', 'F', '1'};
  private static final int PREFIX = MAGIC.length + Integer.BYTES;

  /** How the header of a raw answer begins; its length and {@link #USUAL_END} follow. */
  private static final byte[] USUAL =
      "{\"kind\":\"raw\",\"sections\":[[\"answer\",".getBytes(StandardCharsets.US_ASCII);

  private static final byte[] USUAL_END = "]]}".getBytes(StandardCharsets.US_ASCII);
  private static final int MOST_DIGITS = 9;

  final JsonObject header;
  private final byte[] body;
  private final Map<String, int[]> sections = new HashMap<>();

  private Reply(JsonObject header, byte[] body, int offset) throws MalformedReply {
    this.header = header;
    this.body = body;
    int start = offset;
    JsonArray declared = header.getAsJsonArray("sections");
    if (declared != null) {
      for (JsonElement element : declared) {
        JsonArray section = element.getAsJsonArray();
        int length = section.get(1).getAsInt();
        if (length < 0 || length > body.length - start) {
          throw new MalformedReply(
              "section "
                  + section.get(0)
                  + " of "
                  + length
                  + " bytes, "
                  + (body.length - start)
                  + " are left");
        }
        sections.put(section.get(0).getAsString(), new int[] {start, length});
        start += length;
      }
    }
    if (start != body.length) {
      throw new MalformedReply((body.length - start) + " bytes after the last section");
    }
  }

  private Reply(byte[] body, int start) {
    header = new JsonObject();
    header.addProperty("kind", "raw");
    this.body = body;
    sections.put("answer", new int[] {start, body.length - start});
  }

  /** A raw answer without anything else, which most replies are; null if it is not just that. */
  private static Reply usual(byte[] body, int length) {
    int end = PREFIX + length - USUAL_END.length;
    int at = PREFIX + USUAL.length;
    if (end - at < 1
        || end - at > MOST_DIGITS
        || !Arrays.equals(body, PREFIX, at, USUAL, 0, USUAL.length)
        || !Arrays.equals(body, end, PREFIX + length, USUAL_END, 0, USUAL_END.length)) {
      return null;
    }
    int declared = 0;
    for (; at < end; at++) {
      if (body[at] < '0' || body[at] > '9') {
        return null;
      }
      declared = 10 * declared + body[at] - '0';
    }
    return declared == body.length - PREFIX - length ? new Reply(body, PREFIX + length) : null;
  }

  /** Takes a frame apart; anything that is not one is a {@link MalformedReply} with the reason. */
  static Reply parse(byte[] body) throws MalformedReply {
    if (body == null || body.length < PREFIX) {
      throw new MalformedReply("not a frame: " + (body == null ? 0 : body.length) + " bytes");
    }
    for (int i = 0; i < MAGIC.length; i++) {
      if (body[i] != MAGIC[i]) {
        throw new MalformedReply("not a frame: it does not start with AXF1");
      }
    }
    int length = ByteBuffer.wrap(body, MAGIC.length, Integer.BYTES).getInt();
    if (length < 2 || length > body.length - PREFIX) {
      throw new MalformedReply("header of " + length + " bytes in a body of " + body.length);
    }
    Reply usual = usual(body, length);
    if (usual != null) {
      return usual;
    }
    try {
      String text = new String(body, PREFIX, length, StandardCharsets.UTF_8);
      return new Reply(JsonParser.parseString(text).getAsJsonObject(), body, PREFIX + length);
    } catch (RuntimeException e) {
      throw new MalformedReply("header is not what was expected: " + e.getMessage());
    }
  }

  boolean has(String section) {
    return sections.containsKey(section);
  }

  /** A copy of a section's bytes; empty if there is none. */
  byte[] section(String name) {
    int[] place = sections.get(name);
    if (place == null) {
      return new byte[0];
    }
    byte[] copy = new byte[place[1]];
    System.arraycopy(body, place[0], copy, 0, place[1]);
    return copy;
  }

  /** A string of the header, or null. */
  String text(String key) {
    JsonElement element = header.get(key);
    return element == null || element.isJsonNull() ? null : element.getAsString();
  }

  /** An object of the header, or null. */
  JsonObject object(String key) {
    JsonElement element = header.get(key);
    return element == null || !element.isJsonObject() ? null : element.getAsJsonObject();
  }

  /** A list of distinct indices of the header, 0 to {@code end - 1}. */
  Set<Integer> indices(String key, int end) throws MalformedReply {
    if (!(header.get(key) instanceof JsonArray listed)) {
      throw new MalformedReply("the header has no list \"" + key + "\"");
    }
    Set<Integer> indices = new TreeSet<>();
    for (JsonElement element : listed) {
      int index;
      try {
        index = element.getAsInt();
      } catch (RuntimeException e) {
        throw new MalformedReply(key + ": expected indices, found " + element);
      }
      if (index < 0 || index >= end) {
        throw new MalformedReply(key + ": expected 0 to " + (end - 1) + ", found " + index);
      }
      indices.add(index);
    }
    return indices;
  }

  /** Why a body is not a frame. */
  static final class MalformedReply extends Exception {
    private static final long serialVersionUID = 1;

    MalformedReply(String reason) {
      super(reason);
    }
  }
}
