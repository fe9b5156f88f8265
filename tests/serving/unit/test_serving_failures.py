"""Whose fault an error is, and what its client is told."""

import zlib

import pytest
import torch
from PIL import Image, UnidentifiedImageError

from approxifer_torchserve.serving.worker.failures import Failure, describe

PLAIN = Failure(503, "Prediction failed")


def refused(words):
    return Failure(400, f"preprocess refused the input: {words}")


class LookupFailedError(Exception):
    pass


def chained(error, cause=None):
    try:
        try:
            raise cause
        except Exception:
            raise error  # noqa: B904  (its context tells)
    except Exception as raised:
        return raised


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no number"), refused("ValueError: no number")),
        (KeyError("inputs"), refused("KeyError: 'inputs'")),
        (zlib.error("bad"), refused("error: bad")),
        (OSError("image file is truncated"), refused("OSError: image file is truncated")),
        (UnidentifiedImageError("cannot"), refused("UnidentifiedImageError: cannot")),
        (Image.DecompressionBombError("big"), refused("DecompressionBombError: big")),
        (RuntimeError("stack expects"), refused("RuntimeError: stack expects")),
        (ValueError("bad http://db.internal/x, db:5432"), refused("ValueError: bad")),
        (chained(ValueError("no"), AttributeError("decode")), refused("ValueError: no")),
        (ConnectionRefusedError(111, "db.internal:5432"), PLAIN),
        (OSError(28, "No space left on device"), PLAIN),
        (FileNotFoundError(2, "No such file", "/srv/vocab.txt"), PLAIN),
        (TimeoutError("db.internal"), PLAIN),
        (LookupFailedError("db.internal refused"), PLAIN),
        (chained(ValueError("db.internal"), ConnectionResetError(104, "reset")), PLAIN),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), PLAIN),
        (torch.OutOfMemoryError("out of memory on device 0"), PLAIN),
        (NotImplementedError("no"), PLAIN),
        (NameError("x"), PLAIN),
        (RuntimeError("CUDA error: assert"), Failure(507, "Out of resources")),
        (MemoryError(), Failure(507, "Out of resources")),
    ],
    ids=lambda value: f"{type(value).__name__}-{str(value)[:24]}",
)
def test_only_faults_of_the_input_are_the_clients(error, told):
    found = describe(error, refused_by="preprocess")
    if error.args and "db:5432" in str(error.args[0]):
        assert found.status == told.status
        assert "internal" not in found.message
        assert "5432" not in found.message
    else:
        assert found == told
    assert describe(error).status >= 500
