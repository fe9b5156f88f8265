/**
 * How answers are verified, and workers that answer wrong kept from clients.
 *
 * <pre>
 *  a check suspects:    screen (a group), locate (a decode), votes that differ ─▶ a probe soon
 *  two computations     compare two answers to one query, or a probe with the known prediction
 *  confirm:               └▶ right or wrong ─▶ the ledger ─▶ quarantine ─▶ restart, probes, back
 * </pre>
 *
 * <p>The router sees {@link org.approxifer.torchserve.core.Verifier} and {@link
 * org.approxifer.torchserve.core.Probation} only; {@link
 * org.approxifer.torchserve.core.verify.Verification} makes both.
 */
package org.approxifer.torchserve.core.verify;
