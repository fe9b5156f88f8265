"""KServe's gRPC ``ModelInfer``, as a client of its own would call it: messages by hand."""

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "org.pytorch.serve.grpc.openinference"
_TYPE = descriptor_pb2.FieldDescriptorProto


def _messages():
    proto = descriptor_pb2.FileDescriptorProto(
        name="test/open_inference.proto", package=PACKAGE, syntax="proto3"
    )

    def message(name, *fields):
        made = proto.message_type.add(name=name)
        for number, field, kind, many in fields:
            own = isinstance(kind, str)
            added = made.field.add(
                name=field,
                number=number,
                type=_TYPE.TYPE_MESSAGE if own else kind,
                label=_TYPE.LABEL_REPEATED if many else _TYPE.LABEL_OPTIONAL,
            )
            if own:
                added.type_name = f".{PACKAGE}.{kind}"

    text = _TYPE.TYPE_STRING
    message(
        "Contents",
        (2, "int_contents", _TYPE.TYPE_INT32, True),
        (6, "fp32_contents", _TYPE.TYPE_FLOAT, True),
        (8, "bytes_contents", _TYPE.TYPE_BYTES, True),
    )
    message(
        "Tensor",
        (1, "name", text, False),
        (2, "datatype", text, False),
        (3, "shape", _TYPE.TYPE_INT64, True),
        (5, "contents", "Contents", False),
    )
    head = ((1, "model_name", text, False), (2, "model_version", text, False), (3, "id", text, 0))
    message("Request", *head, (5, "inputs", "Tensor", True))
    message("Response", *head, (5, "outputs", "Tensor", True))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    return [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in ("Request", "Response")
    ]


Request, Response = _messages()


class ModelInfer:
    """A connection; a context manager.

    Args:
        live: The server.
        timeout: Seconds for one call.
    """

    def __init__(self, live, timeout=60.0):
        self.timeout = timeout
        self.token = live.server.token("inference")
        self.channel = grpc.insecure_channel(live.server.grpc)
        self.call = self.channel.unary_unary(
            f"/{PACKAGE}.GRPCInferenceService/ModelInfer",
            request_serializer=Request.SerializeToString,
            response_deserializer=Response.FromString,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def __call__(self, model, content, datatype="BYTES"):
        """Ask with one input tensor of bytes."""
        tensor = {"name": "image", "datatype": datatype, "shape": [1]}
        tensor["contents"] = {"bytes_contents": [content]}
        return self.call(
            Request(model_name=model, id="42", inputs=[tensor]),
            timeout=self.timeout,
            metadata=[("authorization", f"Bearer {self.token}"), ("protocol", "gRPC")],
        )
