package org.approxifer.torchserve.core;

import java.util.concurrent.locks.LockSupport;
import org.pytorch.serve.util.messages.InputParameter;
import org.pytorch.serve.util.messages.RequestInput;

/** A client without anything of Python's, which would cost time and hold its request. */
public final class JavaClient implements Client {
  private final RequestInput request = new RequestInput("request");
  private final Thread thread;
  private volatile Outcome outcome;

  /**
   * @param thread to be woken by the answer
   */
  public JavaClient(Thread thread) {
    this.thread = thread;
    request.addParameter(new InputParameter("body", new byte[] {1, 2, 3}));
  }

  /** How it was answered, or null as long as it was not. */
  public Outcome outcome() {
    return outcome;
  }

  @Override
  public RequestInput request() {
    return request;
  }

  @Override
  public boolean codable() {
    return true;
  }

  @Override
  public boolean framed() {
    return true;
  }

  @Override
  public boolean exactOnly() {
    return false;
  }

  @Override
  public long deadlineNanos() {
    return 0;
  }

  @Override
  public boolean gone() {
    return false;
  }

  @Override
  public long expiresAtMillis() {
    return Long.MAX_VALUE;
  }

  @Override
  public void scheduled() {}

  @Override
  public void answer(Answer answer, Outcome outcome) {
    this.outcome = outcome;
    LockSupport.unpark(thread);
  }

  @Override
  public void busy(String message, long retryAfterSeconds) {
    error(503, message);
  }

  @Override
  public void error(int status, String message) {
    throw new IllegalStateException(status + " " + message);
  }
}
