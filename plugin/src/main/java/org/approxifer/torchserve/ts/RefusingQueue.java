package org.approxifer.torchserve.ts;

import java.util.concurrent.LinkedBlockingDeque;
import org.pytorch.serve.job.Job;

/**
 * The job queue of a model that must not be served: each request is answered 503 with the reason,
 * and the workers wait. Answers of a model whose archive cannot be read would lack what it
 * promises, such as their verification, and nobody would know.
 */
@SuppressWarnings("serial") // never serialised; the deque it replaces happens to be serialisable
final class RefusingQueue extends LinkedBlockingDeque<Job> {
  private final String message;

  RefusingQueue(String message, int limit) {
    super(limit);
    this.message = message;
  }

  @Override
  public boolean offer(Job job) {
    job.sendError(503, message);
    return true;
  }

  @Override
  public void addFirst(Job job) {
    offer(job);
  }
}
