from __future__ import annotations

from typing import Any

from approxifer_torchserve.evaluation.advice import advise
from approxifer_torchserve.evaluation.report import serving_part


def measured(*cases: tuple[str, str, int, float, float, float], task: str = "multiclass") -> Any:
    """Cases of (code, mode, workers, healthy, A_o, A_d), base accuracy 0.9, S = 1."""
    return {
        "heads": {"output": task},
        "base": {"output": 0.9},
        "queries": 8,
        "cases": [
            {
                "code": code, "mode": mode, "workers": workers, "s": 1, "report_key": code,
                "scores": {
                    "output": {
                        "healthy": healthy, "overall": over, "lost_only": lost, "worst": over,
                    }
                },
            }
            for code, mode, workers, healthy, over, lost in cases
        ],
    }  # fmt: skip


NO_CODE = ("uncoded", "uncoded", 8, 0.9, 0.80, 0.1)
COPIES = ("replication", "replicated", 16, 0.9, 0.9, 0.9)


def test_a_weak_parity_is_not_to_reconstruct():
    text = advise(measured(("approxifer", "systematic", 9, 0.9, 0.81, 0.15), COPIES, NO_CODE))
    assert "on_late: [hedge]," in text
    assert "Do not let it reconstruct" in text
    assert "approxifer (0.150)" in text
    assert "replication bears the loss itself (exactly) at 16 workers" in text
    assert "Worse than no code" not in text


def test_a_good_parity_is_taken():
    text = advise(measured(("student", "systematic", 9, 0.9, 0.89, 0.85), COPIES, NO_CODE))
    assert "take student (9 workers) with on_late: [hedge, reconstruct]" in text


def test_a_code_that_loses_to_no_code_is_named_and_so_is_its_healthy_cost():
    text = advise(measured(("classic", "coded", 9, 0.7, 0.75, 0.75), NO_CODE))
    assert "Worse than no code at all (A_o 0.800" in text
    assert "classic 0.700" in text


def test_relative_errors_are_left_to_the_reader_and_not_given_to_serving():
    result = measured(("approxifer", "systematic", 9, 0.1, 0.2, 0.3), task="regression")
    assert "relative errors" in advise(result)
    assert serving_part(result) == {}


def test_of_several_heads_the_one_that_suffers_most_counts():
    result = measured(("approxifer", "systematic", 9, 0.9, 0.8, 0.6), NO_CODE)
    result["heads"]["other"] = "multiclass"
    result["base"]["other"] = 0.5
    for case in result["cases"]:
        case["scores"]["other"] = {**case["scores"]["output"], "lost_only": 0.45}
    part = serving_part(result)
    assert part["base_accuracy"] == 0.5
    assert list(part["codes"]) == ["approxifer"]
    # 0.6 of 0.9 is worse than 0.45 of 0.5, also after both are held against 0.5.
    assert part["codes"]["approxifer"]["head"] == "output"
    assert abs(part["codes"]["approxifer"]["A_d"] / 0.5 - 0.6 / 0.9) < 1e-9
