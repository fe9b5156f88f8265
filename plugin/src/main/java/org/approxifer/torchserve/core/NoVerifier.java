package org.approxifer.torchserve.core;

/** Believes each answer. Other verifiers say where they do not. */
public class NoVerifier implements Verifier {
  @Override
  public boolean admit(Query query) {
    return false;
  }

  @Override
  public void joined(Query query) {}

  @Override
  public boolean closed(Group group) {
    return false;
  }

  @Override
  public boolean answered(Query query, Computation computation) {
    return false;
  }

  @Override
  public boolean parity(Group group, int index, String worker, byte[] prediction) {
    return false;
  }

  @Override
  public void late(Group group, int index) {}

  @Override
  public void lost(Group group, int index) {}

  @Override
  public void lost(Query query) {}

  @Override
  public void ended(Query query) {}

  @Override
  public void brokenUp(Group group) {}

  @Override
  public void alone(Query query) {}

  @Override
  public Answer decoded(Query query, Answer answer) {
    return answer;
  }

  @Override
  public void located(Group group, Reply reply) throws Unusable {}

  @Override
  public int open() {
    return 0;
  }
}
