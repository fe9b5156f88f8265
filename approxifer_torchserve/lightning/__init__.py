"""Lightning callbacks that measure what a code costs while a model trains.

Needs the extra ``lightning``.
"""

from approxifer_torchserve.lightning.degraded import DegradedAccuracy

__all__ = ["DegradedAccuracy"]
