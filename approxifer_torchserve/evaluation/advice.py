"""A short text: which code to take for a model, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GOOD_ENOUGH = 0.8
"""Share of the base accuracy that A_d must reach; serving's default ``min_degraded_accuracy``."""
_CLOSE = 0.005


def advise(measured: Mapping[str, Any]) -> str:
    """Says which of the measured codes to take.

    Args:
        measured: See ``showing.as_measured``; of several heads the first counts.

    Returns:
        A few sentences; every figure in them is in ``measured``.
    """
    head, task = next(iter(measured["heads"].items()))
    if task == "regression":
        return (
            "These are relative errors. Whether one is small enough only you can say; compare each "
            "code's A_d with the row of uncoded, which answers a lost query with a mean."
        )
    base = measured["base"][head]
    words = []
    for lost in sorted({case["s"] for case in measured["cases"]}):
        cases = [
            {**case, **case["scores"][head]} for case in measured["cases"] if case["s"] == lost
        ]
        words.append(_for_loss(lost, base, cases))
    healthy: dict[str, float] = {}
    for case in measured["cases"]:
        value = case["scores"][head]["healthy"]
        if value < base - _CLOSE:
            healthy[case["code"]] = min(value, healthy.get(case["code"], base))
    if healthy:
        listed = ", ".join(f"{code} {value:.3f}" for code, value in healthy.items())
        words.append(
            f"Every answer of these is decoded, so they cost accuracy also when no worker is lost "
            f"(base {base:.3f}; the worst S): {listed}."
        )
    return "\n".join(words)


def _for_loss(lost: int, base: float, cases: list[dict[str, Any]]) -> str:
    plain = next((case for case in cases if case["mode"] == "uncoded"), None)
    codes = [case for case in cases if case["mode"] != "uncoded" and case["lost_only"] is not None]
    if not codes:
        return f"S={lost}: no code was measured whose loss of an answer loses a query."
    floor = plain["overall"] if plain else 0.0
    beaten = [case["code"] for case in codes if plain and case["overall"] <= floor]
    good = [
        case
        for case in codes
        if case["lost_only"] >= GOOD_ENOUGH * base and case["overall"] > floor
    ]
    cheap = sorted(good, key=lambda case: (case["workers"], -case["lost_only"]))
    if cheap and cheap[0]["mode"] == "systematic":
        best = cheap[0]
        text = (
            f"S={lost}: take {best['code']} ({best['workers']} workers) with "
            f"on_late: [hedge, reconstruct]: a lost query is answered right in "
            f"{best['lost_only']:.3f} of cases, the model itself in {base:.3f}."
        )
    else:
        text = (
            f"S={lost}: take approxifer, systematic, with on_late: [hedge], which answers exactly "
            f"by sending a late query again."
        )
        weak = [
            f"{case['code']} ({case['lost_only']:.3f})"
            for case in codes
            if case["mode"] == "systematic" and case not in good
        ]
        if weak:
            text += (
                f" Do not let it reconstruct: too few lost queries come out right with "
                f"{', '.join(weak)}, where the model has {base:.3f}."
            )
        if cheap:
            best = cheap[0]
            answers = (
                "exactly" if best["mode"] == "replicated" else f"{best['lost_only']:.3f} right"
            )
            text += (
                f" Where a second try takes too long, {best['code']} bears the loss itself "
                f"({answers}) at {best['workers']} workers."
            )
    if beaten:
        text += (
            f" Worse than no code at all (A_o {floor:.3f}, a lost query answered with a mean): "
            f"{', '.join(beaten)}."
        )
    return text
