package org.approxifer.torchserve.core;

import java.util.concurrent.locks.LockSupport;
import org.pytorch.serve.util.messages.InputParameter;
import org.pytorch.serve.util.messages.RequestInput;

/** A client without anything of Python's, which would cost time and hold its request. */
public final class JavaClient extends PatientClient {
  private final Thread thread;
  private volatile Outcome outcome;

  /**
   * @param thread to be woken by the answer
   */
  public JavaClient(Thread thread) {
    super(new RequestInput("request"));
    this.thread = thread;
    request().addParameter(new InputParameter("body", new byte[] {1, 2, 3}));
  }

  /** How it was answered, or null as long as it was not. */
  public Outcome outcome() {
    return outcome;
  }

  @Override
  public void answer(Answer answer, Outcome outcome) {
    this.outcome = outcome;
    LockSupport.unpark(thread);
  }

  @Override
  public void error(int status, String message) {
    throw new IllegalStateException(status + " " + message);
  }
}
