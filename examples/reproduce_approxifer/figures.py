"""Figures to compare with, all at K = 8: accuracy over all queries, and the base model's."""

PUBLISHED = {"mnist": {1: (0.872, 0.99)}, "cifar10": {1: (0.776, 0.94)}}
"""Of the authors, S = 1 (arXiv 2109.09868): ApproxIFER's accuracy and its base model's."""

INDEPENDENT = {
    ("mnist", "approxifer:nodes=paper", "arrival"): (0.991, (0.723, 0.862, 0.787)),
    ("mnist", "approxifer:nodes=authors", "arrival"): (0.991, (0.889, 0.814, 0.800)),
    ("mnist", "approxifer:nodes=authors", "similarity"): (0.991, (0.908, 0.850, 0.835)),
    ("mnist", "uncoded", "arrival"): (0.991, (0.88, 0.77, 0.66)),
    ("cifar10", "approxifer:nodes=paper", "arrival"): (0.869, (0.501, 0.693, 0.656)),
    ("cifar10", "approxifer:nodes=authors", "arrival"): (0.869, (0.714, 0.682, 0.655)),
    ("cifar10", "approxifer:nodes=authors", "similarity"): (0.869, (0.733, 0.697, 0.672)),
    ("cifar10", "uncoded", "arrival"): (0.869, (0.773, 0.677, 0.581)),
}
"""Of a program that shares no code with this one, on the same models: base, S = 1, 2, 3."""
