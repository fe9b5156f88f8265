package org.approxifer.torchserve.core;

import org.pytorch.serve.util.messages.RequestInput;

/** A client of tests that asks for nothing special and waits for ever. */
public abstract class PatientClient implements Client {
  private final RequestInput request;

  protected PatientClient(RequestInput request) {
    this.request = request;
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
  public void busy(String message, long retryAfterSeconds) {
    error(503, message);
  }
}
