package org.approxifer.torchserve.core;

/**
 * What one worker made of a query.
 *
 * @param worker who computed it
 * @param answer as the client would get it
 * @param prediction the model's raw prediction, or null where the worker gave none
 * @param sound false if the worker itself found the prediction unusable (NaN)
 * @param outcome how the answer came about
 */
public record Computation(
    String worker, Answer answer, byte[] prediction, boolean sound, Outcome outcome) {

  /** What is compared with what other workers made of the query. */
  public byte[] compared() {
    return prediction == null ? answer.body() : prediction;
  }
}
