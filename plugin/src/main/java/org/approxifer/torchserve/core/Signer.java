package org.approxifer.torchserve.core;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.SecureRandom;
import java.util.HexFormat;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** Signs job headers, so that a worker can tell the plugin's jobs from what a client writes. */
public final class Signer {
  private static final String ALGORITHM = "HmacSHA256";

  private final String key;
  private final Mac mac;

  public Signer(String key) {
    this.key = key;
    try {
      mac = Mac.getInstance(ALGORITHM);
      mac.init(new SecretKeySpec(key.getBytes(StandardCharsets.US_ASCII), ALGORITHM));
    } catch (GeneralSecurityException e) {
      throw new IllegalStateException("this Java has no " + ALGORITHM, e);
    }
  }

  /** A signer with a new random key of 64 hex characters. */
  public static Signer random() {
    byte[] bytes = new byte[32];
    new SecureRandom().nextBytes(bytes);
    return new Signer(HexFormat.of().formatHex(bytes));
  }

  /** The key, to be written where only workers can read it. */
  public String key() {
    return key;
  }

  /** The value of the job header for a request. */
  public synchronized String header(String requestId, String json) {
    byte[] digest = mac.doFinal((requestId + "\n" + json).getBytes(StandardCharsets.UTF_8));
    return "v1 " + HexFormat.of().formatHex(digest) + " " + json;
  }
}
