package org.approxifer.torchserve.core;

import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/** What happened since the model was attached. Guarded by the router's lock. */
final class Counters {
  long requests;
  long late;
  long hedges;
  long hedgesDenied;
  long deaths;
  long erasures;
  long returned;
  long unreturned;
  long duplicates;
  long gone;
  long groups;
  private final Map<Outcome, Long> outcomes = new EnumMap<>(Outcome.class);
  private final Map<Task.Kind, Long> jobs = new EnumMap<>(Task.Kind.class);

  Counters() {
    for (Outcome outcome : Outcome.values()) {
      outcomes.put(outcome, 0L);
    }
    for (Task.Kind kind : Task.Kind.values()) {
      jobs.put(kind, 0L);
    }
  }

  void settled(Outcome outcome) {
    outcomes.merge(outcome, 1L, Long::sum);
  }

  void handed(Task.Kind kind) {
    jobs.merge(kind, 1L, Long::sum);
  }

  Map<String, Object> report() {
    Map<String, Object> report = new LinkedHashMap<>();
    report.put("requests", requests);
    outcomes.forEach((outcome, count) -> report.put(outcome.toString(), count));
    report.put("client_gone", gone);
    Map<String, Object> handed = new LinkedHashMap<>();
    jobs.forEach((kind, count) -> handed.put(kind.name().toLowerCase(Locale.ROOT), count));
    report.put("jobs", handed);
    report.put("late", late);
    report.put("hedges", hedges);
    report.put("hedges_denied", hedgesDenied);
    report.put("worker_deaths", deaths);
    report.put("erasures", erasures);
    report.put("returned", returned);
    report.put("unreturned", unreturned);
    report.put("duplicate_callbacks", duplicates);
    report.put("groups", groups);
    return report;
  }
}
