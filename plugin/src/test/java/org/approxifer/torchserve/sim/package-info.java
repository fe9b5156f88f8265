/**
 * Queueing in virtual time: the real router, and policies to compare it with, on simulated workers.
 *
 * <pre>
 *  Simulation ─ Agenda (what happens when) ─ Time
 *      │ arrivals                  │ ends of runs
 *      ▼                           │
 *  Server ───── begins runs ────▶ Floor (workers) ─ Work (service times), Fault (what is wrong)
 *  (Plain, Oracle, Routed)
 *      │ answers
 *      ▼
 *  Request ─▶ Tally (percentiles, goodput, extra work)
 * </pre>
 *
 * <p>Everything random is a function of the seed, the request and the worker, so that all policies
 * meet the same arrivals, inputs and misfortunes.
 */
package org.approxifer.torchserve.sim;
