package org.approxifer.torchserve.core;

/** Believes each answer. */
public final class NoVerifier implements Verifier {}
