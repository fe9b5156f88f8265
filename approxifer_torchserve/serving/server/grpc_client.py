"""TorchServe's gRPC ``Predictions`` call, without generated stubs.

The three messages it needs are described here as in TorchServe's ``inference.proto``; its wheel
ships no Python stubs, and generating them needs a compiler at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from approxifer_torchserve.serving.server.tokens import Token

PACKAGE = "org.pytorch.serve.grpc.inference"
METHOD = f"/{PACKAGE}.InferenceAPIsService/Predictions"
_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
_MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE


def _messages() -> tuple[Any, Any]:
    proto = descriptor_pb2.FileDescriptorProto(
        name="approxifer/inference.proto", package=PACKAGE, syntax="proto3"
    )
    request = proto.message_type.add(name="PredictionsRequest")
    request.field.add(name="model_name", number=1, type=_STRING, label=1)
    request.field.add(name="model_version", number=2, type=_STRING, label=1)
    entry = request.nested_type.add(name="InputEntry")
    entry.field.add(name="key", number=1, type=_STRING, label=1)
    entry.field.add(name="value", number=2, type=_BYTES, label=1)
    entry.options.map_entry = True
    kind = f".{PACKAGE}.PredictionsRequest.InputEntry"
    request.field.add(name="input", number=3, type=_MESSAGE, label=3, type_name=kind)
    response = proto.message_type.add(name="PredictionResponse")
    response.field.add(name="prediction", number=1, type=_BYTES, label=1)
    # A pool of our own: the default one may hold TorchServe's generated messages already.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    names = ("PredictionsRequest", "PredictionResponse")
    found = [pool.FindMessageTypeByName(f"{PACKAGE}.{name}") for name in names]
    return message_factory.GetMessageClass(found[0]), message_factory.GetMessageClass(found[1])


_Request, _Response = _messages()


class GrpcPredictions:
    """A connection to TorchServe's gRPC inference service; a context manager.

    Args:
        target: ``host:port`` of the service (TorchServe's default is 127.0.0.1:7070).
        token: Inference token; None where authorization is off.
        key_file: TorchServe's key_file.json, where no token is given: the token comes from there,
            and again when the server refuses it because it has expired.
        timeout: Seconds for one call.
    """

    def __init__(
        self,
        target: str,
        token: str | None = None,
        *,
        key_file: str | Path | None = None,
        timeout: float = 60.0,
    ) -> None:
        self._token = Token(token, key_file, "inference")
        self._timeout = timeout
        self._channel = grpc.insecure_channel(target)
        self._call = self._channel.unary_unary(
            METHOD,
            request_serializer=_Request.SerializeToString,
            response_deserializer=_Response.FromString,
        )

    def predict(
        self, model: str, inputs: bytes | Mapping[str, bytes], version: str | None = None
    ) -> bytes:
        """Asks for one prediction.

        Args:
            model: The model's name.
            inputs: The request's body, or its parameters by name. ``x-approxifer-accept`` and
                ``x-approxifer-deadline-ms`` among them are request options, as REST's headers.
            version: A version of it; None for the default one.

        Returns:
            The answer's body, as REST would return it.

        Raises:
            grpc.RpcError: The server refused; ``code()`` and ``details()`` say why.
            KeyFileError: The key file cannot be read.
        """
        named = {"data": inputs} if isinstance(inputs, bytes) else dict(inputs)
        request = _Request(model_name=model, model_version=version or "", input=named)
        try:
            return self._send(request)
        except grpc.RpcError as error:
            denied = error.code() == grpc.StatusCode.PERMISSION_DENIED
            if not (denied and self._token.renew()):
                raise
        return self._send(request)

    def _send(self, request: Any) -> bytes:
        token = self._token.value()
        signed = [("protocol", "gRPC"), ("authorization", f"Bearer {token}")]
        metadata = [] if token is None else signed
        reply = self._call(request, timeout=self._timeout, metadata=metadata)
        return bytes(reply.prediction)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> GrpcPredictions:
        """Returns itself."""
        return self

    def __exit__(self, *unused: object) -> None:
        """Closes the connection."""
        self.close()
