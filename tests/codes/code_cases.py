"""The codes and erasure patterns that the tests of this folder go through."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

import torch
from hypothesis import strategies as st
from torch import Tensor

from approxifer_torchserve.codes import BerrutCode, Code, make_code

KINDS = ("paper", "authors", "systematic")
QUERIES = range(2, 17)
STRAGGLERS = range(1, 5)
PATTERNS_PER_CODE = 120


def berrut_code(kind: str, queries: int, stragglers: int, byzantine: int = 0) -> BerrutCode:
    options = {"systematic": True} if kind == "systematic" else {"systematic": False, "nodes": kind}
    code = make_code(
        "approxifer", queries=queries, stragglers=stragglers, byzantine=byzantine, **options
    )
    assert isinstance(code, BerrutCode)
    return code


def all_codes(queries: int, stragglers: int) -> list[Code]:
    codes: list[Code] = [berrut_code(kind, queries, stragglers) for kind in KINDS]
    others = [
        make_code(name, queries=queries, stragglers=stragglers) for name in ("parm", "replication")
    ]
    return [*codes, *others]


def mask_without(code: Code, lost: tuple[int, ...]) -> Tensor:
    mask = torch.ones(code.num_workers, dtype=torch.bool)
    mask[list(lost)] = False
    return mask


def erasures(code: Code, seed: int = 0) -> Iterator[Tensor]:
    """Every pattern of at most S lost answers, or as many as we have patience for."""
    workers = range(code.num_workers)
    for count in range(code.stragglers + 1):
        share = PATTERNS_PER_CODE // code.stragglers
        if math.comb(code.num_workers, count) <= share:
            chosen = list(itertools.combinations(workers, count))
        else:
            draw = random.Random(f"{seed} {code} {count}")
            chosen = [tuple(draw.sample(workers, count)) for _ in range(share)]
        for lost in chosen:
            yield mask_without(code, lost)


@st.composite
def coded_patterns(draw: st.DrawFn) -> tuple[BerrutCode, Tensor]:
    """A Berrut code and a pattern of at most S lost answers."""
    code = berrut_code(
        draw(st.sampled_from(KINDS)),
        draw(st.integers(QUERIES[0], QUERIES[-1])),
        draw(st.integers(STRAGGLERS[0], STRAGGLERS[-1])),
    )
    lost = draw(st.sets(st.integers(0, code.num_workers - 1), max_size=code.stragglers))
    return code, mask_without(code, tuple(lost))
