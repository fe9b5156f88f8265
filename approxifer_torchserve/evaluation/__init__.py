"""What a code costs in accuracy, on a model and data: metrics, patterns of losses, reports.

Needs the extra ``lightning`` (torchmetrics).
"""

from approxifer_torchserve.evaluation.evaluator import Domain, Evaluator
from approxifer_torchserve.evaluation.forwards import SharedForwards
from approxifer_torchserve.evaluation.functional import (
    Task,
    agreement,
    locator_rates,
    lost_accuracy,
    overall_accuracy,
    worst_pattern,
)
from approxifer_torchserve.evaluation.grouping import group_alike, order_by_similarity
from approxifer_torchserve.evaluation.metrics import DegradedScores, LocatorScores, Scores
from approxifer_torchserve.evaluation.patterns import lost_queries
from approxifer_torchserve.evaluation.specs import Case, CodeSpec, make_cases, parse_spec

__all__ = [
    "Case",
    "CodeSpec",
    "DegradedScores",
    "Domain",
    "Evaluator",
    "LocatorScores",
    "Scores",
    "SharedForwards",
    "Task",
    "agreement",
    "group_alike",
    "locator_rates",
    "lost_accuracy",
    "lost_queries",
    "make_cases",
    "order_by_similarity",
    "overall_accuracy",
    "parse_spec",
    "worst_pattern",
]
