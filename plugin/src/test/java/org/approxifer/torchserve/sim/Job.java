package org.approxifer.torchserve.sim;

/**
 * A request in a worker's hands.
 *
 * @param ticket what the server recognises it by, or null
 */
record Job(Request request, Object ticket) {}
