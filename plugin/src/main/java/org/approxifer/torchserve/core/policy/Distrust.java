package org.approxifer.torchserve.core.policy;

import java.util.Locale;

/** Why a worker is not trusted. */
public enum Distrust {
  /** To blame for too many failed requests. */
  EJECTED,
  /** Failed a request, and has answered none well since. */
  SUSPECTED,
  /** Has given no good answer since its process began, while others have. */
  UNPROVEN,
  /** Takes much longer than the others. */
  SLOW;

  /** As reports say it. */
  public String word() {
    return name().toLowerCase(Locale.ROOT);
  }
}
