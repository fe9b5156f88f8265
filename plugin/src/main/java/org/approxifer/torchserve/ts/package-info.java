/**
 * The router inside TorchServe 0.12.0: its queue, its jobs, its models and its plugin endpoint.
 *
 * <p>All that relies on TorchServe's internals is here, what is private in {@link
 * org.approxifer.torchserve.ts.Internals} alone.
 */
package org.approxifer.torchserve.ts;
