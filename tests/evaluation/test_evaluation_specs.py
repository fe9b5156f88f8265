from __future__ import annotations

import pytest

from approxifer_torchserve.artifacts.report import code_key
from approxifer_torchserve.codes import ApproxIFER, SystematicApproxIFER, Uncoded
from approxifer_torchserve.evaluation import CodeSpec, make_cases, parse_spec
from approxifer_torchserve.serving.config import CodeConfig


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("approxifer", SystematicApproxIFER),
        ("approxifer:systematic", SystematicApproxIFER),
        ("approxifer:systematic=false", ApproxIFER),
        ("approxifer:nodes=paper", ApproxIFER),
        ("uncoded", Uncoded),
    ],
)
def test_a_label_gives_the_spec_again(text: str, kind: type):
    spec = parse_spec(text)
    assert spec.label == text
    assert parse_spec(spec.label) == spec
    assert isinstance(spec.make(4, 1), kind)


def test_mappings_and_texts_mean_the_same():
    mapping = {"name": "replication", "rtol": 0.5, "atol": 1}
    assert parse_spec(mapping) == parse_spec("replication:rtol=0.5:atol=1")
    assert parse_spec(CodeSpec("uncoded")) == CodeSpec("uncoded")


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("", ValueError, "expected name"),
        (":nodes=paper", ValueError, "expected name"),
        ("approxifer:nodes=paper:nodes=authors", ValueError, "each option once"),
        ({"nodes": "paper"}, ValueError, "a mapping with 'name'"),
        (3, TypeError, "texts or mappings, got int"),
    ],
)
def test_what_is_no_code_is_refused(given: object, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        parse_spec(given)  # type: ignore[arg-type]


def test_report_keys_are_the_ones_that_serving_looks_up():
    cases = make_cases(
        ["approxifer", "approxifer:nodes=authors:systematic=false", "replication"], 8, [1, 3]
    )
    for case in cases:
        config = CodeConfig(
            name=case.spec.name,
            queries=8,
            stragglers=case.code.stragglers,
            **dict(case.spec.options),
        )
        assert case.report_key == code_key(config.name, config.settings())


def test_an_implied_option_is_in_the_key_too():
    (case,) = make_cases(["approxifer:nodes=authors"], 8, [1])
    config = CodeConfig(name="approxifer", nodes="authors", systematic=False)
    assert case.report_key == code_key(config.name, config.settings())


def test_cases_are_checked():
    with pytest.raises(ValueError, match="at least one"):
        make_cases([], 8, [1])
    with pytest.raises(ValueError, match="more than once"):
        make_cases(["replication", "replication"], 8, [1])
    with pytest.raises(ValueError, match="5 answers cannot be lost of the 4"):
        make_cases(["uncoded"], 4, [5])
