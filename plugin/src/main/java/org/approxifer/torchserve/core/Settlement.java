package org.approxifer.torchserve.core;

import java.util.ArrayDeque;
import java.util.Set;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Answers each client once. Replies are queued and sent after the router's lock is released. */
public final class Settlement {
  private static final Logger LOGGER = LoggerFactory.getLogger(Settlement.class);

  private final String name;
  private final Schedule schedule;
  private final Counters counters;
  private final Set<Query> live;
  private final Line line;
  private final ArrayDeque<Runnable> replies;

  /** After how many seconds a client is to come back where nobody knows better. */
  static final int RETRY_AFTER_S = 1;

  Settlement(
      String name,
      Schedule schedule,
      Counters counters,
      Set<Query> live,
      Line line,
      ArrayDeque<Runnable> replies) {
    this.name = name;
    this.schedule = schedule;
    this.counters = counters;
    this.live = live;
    this.line = line;
    this.replies = replies;
  }

  /** Answers a query unless it has been answered; true if this was the answer. */
  public boolean answer(Query query, Answer answer, Outcome outcome) {
    Client client = query.client();
    if (!settle(query)) {
      return false;
    }
    counters.settled(outcome, schedule.now() - query.admittedNanos);
    reply(
        query,
        () -> {
          try {
            client.answer(answer, outcome);
          } catch (RuntimeException e) {
            client.error(500, "the model's answer could not be sent: " + e);
            throw e;
          }
        });
    return true;
  }

  /**
   * Answers a query with an error unless it has been answered. A reconstruction that was held back
   * for an exact answer is better than an error that is not the client's own fault.
   */
  public void error(Query query, int status, String message) {
    Client client = query.client();
    error(query, status, message, () -> client.error(status, message));
  }

  /**
   * The same where neither model nor request is at fault: 503, and the client had better come back.
   * A handler's own 503 says nothing of the kind.
   */
  public void unavailable(Query query, String message) {
    Client client = query.client();
    error(query, 503, message, () -> client.busy(message, RETRY_AFTER_S));
  }

  private void error(Query query, int status, String message, Runnable reply) {
    if (status >= 500 && query.spare != null) {
      answer(query, query.spare, Outcome.RECONSTRUCTED);
    } else if (settle(query)) {
      query.abandoned = true;
      note(status >= 500, "request " + query.requestId + " answered " + status + ": " + message);
      failed(query, reply);
    }
  }

  /** Runs an action once the router's lock is released. */
  public void later(Runnable action) {
    replies.add(action);
  }

  /** Writes a line about a request to the log once the router's lock is released. */
  public void note(boolean bad, String text) {
    // What a client or a handler said must not look like a line of its own.
    String line = text.replaceAll("\\p{Cntrl}", " ");
    replies.add(
        () -> {
          if (bad) {
            LOGGER.warn("{}: {}", name, line);
          } else {
            LOGGER.info("{}: {}", name, line);
          }
        });
  }

  /** Answers 503 where no worker has begun; counted, but too many to log under load. */
  void busy(Query query, String message, long retryAfterSeconds) {
    Client client = query.client();
    if (settle(query)) {
      query.abandoned = true;
      failed(query, () -> client.busy(message, retryAfterSeconds));
    }
  }

  private void failed(Query query, Runnable reply) {
    counters.settled(Outcome.FAILED, schedule.now() - query.admittedNanos);
    reply(query, reply);
  }

  /** Forgets a query whose client has hung up. */
  void drop(Query query) {
    query.abandoned |= settle(query);
  }

  private boolean settle(Query query) {
    if (query.settled) {
      return false;
    }
    query.settled = true;
    query.settledNanos = schedule.now();
    live.remove(query);
    line.leave(query);
    Group group = query.group;
    if (group != null && !group.verification.open() && group.settled()) {
      group.release();
    }
    return true;
  }

  private void reply(Query query, Runnable send) {
    replies.add(
        () -> {
          try {
            send.run();
          } catch (RuntimeException e) {
            // The client's connection broke under the reply; the worker thread must not.
            LOGGER.warn("{}: request {} could not be answered", name, query.requestId, e);
          }
        });
  }
}
