/**
 * The scheduling policy as arithmetic: what is late, what a copy may cost, whom to trust, whom to
 * let in. Nothing here knows a job, a lock or a clock; times are handed in, in nanoseconds, and all
 * is guarded by the router's lock.
 */
package org.approxifer.torchserve.core.policy;
