package org.approxifer.torchserve.core;

import java.util.HashMap;
import java.util.Map;

/** One HTTP-like answer of a worker, as TorchServe hands it over or as a client is sent it. */
public record Answer(
    byte[] body, CharSequence contentType, int status, String phrase, Map<String, String> headers) {
  public Answer {
    headers = headers == null ? Map.of() : headers;
  }

  /** The same answer with one more header. */
  public Answer with(String header, String value) {
    Map<String, String> more = new HashMap<>(headers);
    more.put(header, value);
    return new Answer(body, contentType, status, phrase, more);
  }

  /** The same answer with another body. */
  public Answer withBody(byte[] other) {
    return new Answer(other, contentType, status, phrase, headers);
  }
}
