"""Accuracy reports: what is taken, what is refused, and the one key of a code."""

import doctest
import json
from pathlib import Path

import pytest

from approxifer_torchserve.artifacts import report as accuracy_report
from approxifer_torchserve.artifacts.report import ReportError, code_key, load_report
from approxifer_torchserve.artifacts.weights import digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"base_accuracy": 1.2, "codes": {}}', r"report r\.json: base_accuracy: .*less than"),
        ('{"base_accuracy": 0, "codes": {}}', r"report r\.json: base_accuracy"),
        ('{"base_accuracy": 0.9}', r"report r\.json: codes: Field required"),
        ('{"base_accuracy": 1, "codes": {"a": {}}}', r"report r\.json: codes\.a\.A_d: Field"),
        ("no", r"report r\.json: file: Invalid JSON"),
        ("[]", r"report r\.json: file"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, said: str):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=said):
        load_report(path)


def test_what_is_only_for_people_is_passed_over(tmp_path: Path):
    path = tmp_path / "r.json"
    code = {"A_d": 0.5, "A_o": 0.9, "head": "output"}
    path.write_text(json.dumps({"base_accuracy": 1.0, "codes": {"a": code}, "advice": "none"}))
    report = load_report(path)
    assert (report.base_accuracy, report.codes["a"].A_d, report.weights) == (1.0, 0.5, {})


def test_a_report_counts_only_for_the_weights_that_it_measured(tmp_path: Path):
    measured, other = tmp_path / "measured", tmp_path / "other"
    measured.write_text("a")
    other.write_text("b")
    path = tmp_path / "r.json"
    weights = {"parity": digest(measured)}
    path.write_text(json.dumps({"base_accuracy": 1.0, "codes": {}, "weights": weights}))
    report = load_report(path)
    report.check_weights({"parity": measured, "backup": other})
    with pytest.raises(ReportError, match=r"other weights of parity, sha256 .*evaluate"):
        report.check_weights({"parity": other})


def test_a_key_does_not_depend_on_the_order_of_settings():
    settings = {"queries": 8, "stragglers": 1, "byzantine": 0, "systematic": True}
    key = "approxifer(byzantine=0,queries=8,stragglers=1,systematic=True)"
    assert code_key("approxifer", settings) == key
    assert code_key("approxifer", dict(sorted(settings.items()))) == key


def test_examples_print_what_they_say():
    result = doctest.testmod(accuracy_report)
    assert (result.attempted, result.failed) == (1, 0)
