package org.approxifer.torchserve.core;

import org.pytorch.serve.util.messages.RequestInput;

/**
 * The one who waits for an answer. The router calls exactly one of the two replies, once; and the
 * error where the answer threw.
 */
public interface Client {
  /** The request as it came. Never changed by the router. */
  RequestInput request();

  /** False for what can only be sent to one worker as it is (explain, describe). */
  boolean codable();

  /** False for a request whose reply is not framed by our worker (describe). */
  boolean framed();

  /** True for a client that wants the model's own answer or none. */
  boolean exactOnly();

  /** The client's own deadline in nanoseconds, or 0 for the policy's. */
  long deadlineNanos();

  /** True once the client has hung up. */
  boolean gone();

  /** Wall-clock time in ms after which the client wants no answer; Long.MAX_VALUE for never. */
  long expiresAtMillis();

  /** The request went to a worker for the first time. */
  void scheduled();

  /** Sends the answer. */
  void answer(Answer answer, Outcome outcome);

  /** Sends error 503 to a client that had better come back after so many seconds. */
  void busy(String message, long retryAfterSeconds);

  /** Sends an error in TorchServe's own form. */
  void error(int status, String message);
}
