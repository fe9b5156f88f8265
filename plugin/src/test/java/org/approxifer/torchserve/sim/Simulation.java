package org.approxifer.torchserve.sim;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** One policy in one scenario, from the first request to the last answer. */
public final class Simulation {
  /** So long after the last arrival whoever has no answer is given up. */
  private static final long PATIENCE = 300 * Time.SECOND;

  private final Scenario scenario;
  private final Dice dice;
  private final Time time = new Time();
  private final Agenda agenda = new Agenda();
  private final Work work;
  private final Floor floor;
  private final Server server;
  private final List<Request> requests = new ArrayList<>();

  /** So many of the first requests are known to have an answer. */
  private int settled;

  private int phase;
  private long phaseEnds;

  private Simulation(Scenario scenario, String policy, String plan) {
    this.scenario = scenario;
    dice = new Dice(scenario.seed);
    work = new Work(scenario, dice);
    floor = new Floor(scenario, time, agenda, work);
    server =
        switch (policy) {
          case "plain" -> new Plain(scenario, time, floor);
          case "oracle" -> new Oracle(scenario, time, floor, work);
          case "router" -> new Routed(scenario, plan, time, agenda, floor);
          default -> throw new IllegalArgumentException("no policy is called " + policy);
        };
    phaseEnds = end(0, Time.BEGIN);
  }

  /**
   * Simulates and returns the figures as JSON.
   *
   * @param scenario see {@link Scenario}
   * @param policy plain, oracle or router
   * @param plan the router's plan.json
   */
  public static String run(String scenario, String policy, String plan) {
    Simulation simulation = new Simulation(Scenario.parse(scenario), policy, plan);
    simulation.run();
    Map<String, Object> figures = new Tally(simulation.scenario, simulation.requests).figures();
    figures.put("extra", simulation.floor.extraWork());
    return json(figures);
  }

  /** The same, and returns what became of each request: arrival, first start, answer, status. */
  public static long[][] trace(String scenario, String policy, String plan) {
    Simulation simulation = new Simulation(Scenario.parse(scenario), policy, plan);
    simulation.run();
    return simulation.requests.stream()
        .map(
            request ->
                new long[] {request.arrived, request.begun, request.answered, request.status})
        .toArray(long[][]::new);
  }

  private static String json(Map<String, Object> figures) {
    Map<String, Object> finite = new LinkedHashMap<>();
    figures.forEach(
        (key, value) ->
            finite.put(
                key, value instanceof Double number && !Double.isFinite(number) ? null : value));
    return Scenario.json(finite);
  }

  private void run() {
    floor.open(server);
    agenda.at(Time.BEGIN, () -> nextArrival(Time.BEGIN));
    long end = Long.MAX_VALUE;
    while (time.nanos() < end) {
      long planned = agenda.next();
      long due = server.due();
      time.set(Math.max(time.nanos(), Math.min(planned, due)));
      if (due <= planned) {
        server.tick();
      } else {
        agenda.runNext();
      }
      if (end == Long.MAX_VALUE && requests.size() == scenario.requests) {
        end = time.nanos() + PATIENCE;
      }
      if (end < Long.MAX_VALUE && settled()) {
        // Second answers would come from copies that still run.
        end = Math.min(end, time.nanos() + 10 * Time.SECOND);
      }
    }
  }

  /** True once everybody has an answer. */
  private boolean settled() {
    while (settled < requests.size() && requests.get(settled).answers > 0) {
      settled++;
    }
    return settled == requests.size();
  }

  private void nextArrival(long from) {
    if (requests.size() == scenario.requests) {
      return;
    }
    double gap = dice.exponential(Dice.Use.ARRIVAL, requests.size());
    long at = after(from, gap);
    agenda.at(
        at,
        () -> {
          Request request = work.request(requests.size(), at);
          requests.add(request);
          server.arrived(request);
          nextArrival(at);
        });
  }

  /** When so many mean gaps have passed; the rate may change in between. */
  private long after(long from, double gaps) {
    double left = gaps;
    long at = from;
    while (true) {
      double rate = scenario.phases.get(phase).load * scenario.capacity() / Time.SECOND;
      if (phaseEnds == Long.MAX_VALUE || at + left / rate < phaseEnds) {
        return at + Math.round(left / rate);
      }
      left -= (phaseEnds - at) * rate;
      at = phaseEnds;
      phaseEnds = end(++phase, at);
    }
  }

  private long end(int phase, long begin) {
    boolean last = phase == scenario.phases.size() - 1;
    return last ? Long.MAX_VALUE : begin + Time.ofSeconds(scenario.phases.get(phase).seconds);
  }
}
