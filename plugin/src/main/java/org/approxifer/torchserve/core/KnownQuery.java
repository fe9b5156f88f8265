package org.approxifer.torchserve.core;

import java.util.List;
import java.util.Map;
import org.pytorch.serve.util.messages.InputParameter;

/**
 * A stored request with its known prediction (a safetensors blob), from the archive.
 *
 * @param headers of the request, such as its content type
 * @param parameters of the request, as TorchServe hands them to a handler
 * @param prediction what the model answers to it
 */
public record KnownQuery(
    Map<String, String> headers, List<InputParameter> parameters, byte[] prediction) {}
