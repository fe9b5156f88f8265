"""Codes over predictions: what to send to N+1 workers so that some may stay silent.

Nothing here knows of TorchServe, clocks, threads or files.

Example:
    >>> import torch
    >>> from approxifer_torchserve.codes import make_code
    >>> code = make_code("approxifer", queries=4, stragglers=1)
    >>> coded = code.encode(torch.eye(4))
    >>> available = torch.tensor([True, True, False, True, True])
    >>> code.decode(coded, available)[0].tolist()
    [1.0, 0.0, 0.0, 0.0]
"""

from approxifer_torchserve.codes.approxifer import ApproxIFER, BerrutCode, SystematicApproxIFER
from approxifer_torchserve.codes.base import Code, NotRecoverableError
from approxifer_torchserve.codes.linear import LinearCode
from approxifer_torchserve.codes.locators.base import Locator
from approxifer_torchserve.codes.locators.calibrate import calibrate
from approxifer_torchserve.codes.locators.locating import LocatingCode
from approxifer_torchserve.codes.pairs import Pairs
from approxifer_torchserve.codes.parm import ParM
from approxifer_torchserve.codes.plan import Mode, Plan
from approxifer_torchserve.codes.registry import (
    CodeRecord,
    Option,
    available_codes,
    make_code,
    register_code,
    settled,
)
from approxifer_torchserve.codes.replication import Replication
from approxifer_torchserve.codes.spline import Spline
from approxifer_torchserve.codes.uncoded import Uncoded

__all__ = [
    "ApproxIFER",
    "BerrutCode",
    "Code",
    "CodeRecord",
    "LinearCode",
    "LocatingCode",
    "Locator",
    "Mode",
    "NotRecoverableError",
    "Option",
    "Pairs",
    "ParM",
    "Plan",
    "Replication",
    "Spline",
    "SystematicApproxIFER",
    "Uncoded",
    "available_codes",
    "calibrate",
    "make_code",
    "register_code",
    "settled",
]
