"""Lightning: what a code costs while a model trains, and training of a code's own weights.

Needs the extra ``lightning``.
"""

from approxifer_torchserve.lightning.degraded import DegradedAccuracy
from approxifer_torchserve.lightning.parity import ParityTraining

__all__ = ["DegradedAccuracy", "ParityTraining"]
