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
  Answer withBody(byte[] other) {
    return new Answer(other, contentType, status, phrase, headers);
  }

  /**
   * Throws where no client can be sent this: TorchServe would hang up, or write what is no HTTP.
   */
  void check() throws Unusable {
    if (status < 100 || status > 999) {
      throw new Unusable("malformed reply: status " + status + " is not one of HTTP");
    } else if (breaks(contentType) || breaks(phrase)) {
      throw new Unusable("malformed reply: its content type or phrase is more than a line");
    }
    for (Map.Entry<String, String> header : headers.entrySet()) {
      String name = header.getKey();
      boolean token = name != null && name.chars().allMatch(c -> c > ' ' && c < 127 && c != ':');
      if (!token || name.isEmpty() || header.getValue() == null || breaks(header.getValue())) {
        throw new Unusable("malformed reply: header " + name + " is not one of HTTP");
      }
    }
  }

  private static boolean breaks(CharSequence text) {
    for (int i = 0; text != null && i < text.length(); i++) {
      char c = text.charAt(i);
      if (c < ' ' && c != '\t' || c == 127) {
        return true;
      }
    }
    return false;
  }
}
