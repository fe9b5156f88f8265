"""What every code does alike: shapes, pytrees, batch axes, dtypes, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from code_cases import all_codes, berrut_code, erasures, mask_without
from hypothesis import given, settings
from hypothesis import strategies as st

from approxifer_torchserve.codes import Code, LinearCode, NotRecoverableError, make_code
from approxifer_torchserve.codes import linear as linear_module

CODES = all_codes(4, 2)
each_code = pytest.mark.parametrize("code", CODES, ids=repr)
NAN = float("nan")


def everything(code: Code) -> torch.Tensor:
    return torch.ones(code.num_workers, dtype=torch.bool)


@each_code
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0,)])
def test_shapes(code: Code, shape: tuple[int, ...]):
    for batch in [(), (2,), (2, 3), (0,)]:
        dims = len(batch)
        coded = code.encode(torch.randn(*batch, code.queries, *shape), batch_dims=dims)
        assert coded.shape == (*batch, code.num_workers, *shape)
        decoded = code.decode(coded, everything(code), batch_dims=dims)
        assert decoded.shape == (*batch, code.queries, *shape)
        located = code.locate(coded, everything(code), batch_dims=dims)
        assert located.shape == (*batch, code.num_workers)
        assert not located.any()


@each_code
def test_pytrees_are_coded_leaf_by_leaf(code: Code):
    image, mask = torch.randn(code.queries, 3, 5), torch.randn(code.queries, dtype=torch.float64)
    tree = {"image": image, "rest": (mask, [image[:, 0]])}
    coded = code.encode(tree)
    assert torch.equal(coded["image"], code.encode(image))
    assert torch.equal(coded["rest"][0], code.encode(mask))
    assert coded["rest"][0].dtype == torch.float64
    for available in erasures(code):
        decoded = code.decode(coded, available)
        assert torch.equal(decoded["image"], code.decode(coded["image"], available))
        assert torch.equal(decoded["rest"][1][0], code.decode(coded["rest"][1][0], available))


@each_code
def test_each_group_of_a_batch_has_its_own_pattern(code: Code):
    patterns = torch.stack(list(erasures(code))[:12]).reshape(3, 4, -1)
    answers = torch.randn(3, 4, code.num_workers, 5, dtype=torch.float64)
    together = code.decode(answers, patterns, batch_dims=2)
    recoverable = code.recoverable(patterns)
    assert recoverable.shape == (3, 4, code.queries)
    for i in range(3):
        for j in range(4):
            alone = code.decode(answers[i, j], patterns[i, j])
            torch.testing.assert_close(together[i, j], alone, rtol=1e-12, atol=1e-12)


@each_code
def test_batch_axes_do_not_mix_groups(code: Code):
    values = torch.randn(5, code.queries, 2, dtype=torch.float64)
    together = code.encode(values, batch_dims=1)
    for i in range(5):
        torch.testing.assert_close(together[i], code.encode(values[i]), rtol=1e-12, atol=1e-12)


@each_code
@pytest.mark.parametrize("poison", [NAN, float("inf")])
def test_what_stands_at_unavailable_positions_is_never_read(code: Code, poison: float):
    answers = torch.randn(code.num_workers, 3)
    for available in erasures(code):
        poisoned = answers.clone()
        poisoned[~available] = poison
        assert torch.equal(code.decode(poisoned, available), code.decode(answers, available))
    # The same where the pattern differs by group.
    masks = torch.stack([mask_without(code, (0,)), mask_without(code, (1,))])
    batch = answers.expand(2, -1, -1).masked_fill(~masks[..., None], poison)
    assert torch.isfinite(code.decode(batch, masks, batch_dims=1)).all()


def test_an_infinite_answer_does_not_reach_queries_that_have_their_own():
    code = berrut_code("systematic", 4, 1)
    answers = torch.randn(5, 3)
    answers[1] = float("inf")
    decoded = code.decode(answers, mask_without(code, (0,)))
    assert torch.equal(decoded[1:], answers[1:4])


@each_code
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-13), (torch.float32, 1e-5), (torch.bfloat16, 0.01), (torch.float16, 2e-3)],
)
def test_dtype_is_kept_and_rounded_once(code: Code, dtype: torch.dtype, tolerance: float):
    values = torch.randn(code.queries, 50).to(dtype)
    coded = code.encode(values)
    assert coded.dtype == dtype
    torch.testing.assert_close(
        coded.double(), code.encode(values.double()), rtol=tolerance, atol=tolerance
    )
    available = mask_without(code, (1,))
    decoded = code.decode(coded, available)
    assert decoded.dtype == dtype
    exact = code.decode(coded.double(), available)
    torch.testing.assert_close(decoded.double(), exact, rtol=tolerance, atol=tolerance)
    if dtype == torch.bfloat16:
        assert torch.equal(coded, code.encode(values.float()).to(dtype))


@each_code
def test_autocast_does_not_change_the_dtype(code: Code):
    values = torch.randn(code.queries, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coded = code.encode(values)
    assert torch.equal(coded, code.encode(values))


def test_matrices_first_made_in_inference_mode_can_be_trained_through():
    linear_module._encoder.cache_clear()
    linear_module._decoder.cache_clear()
    code = berrut_code("authors", 4, 1)
    with torch.inference_mode():
        code.decode(code.encode(torch.randn(4, 2)), mask_without(code, (1,)))
    values = torch.randn(4, 2, requires_grad=True)
    code.decode(code.encode(values), mask_without(code, (1,))).square().sum().backward()
    assert values.grad is not None
    assert torch.isfinite(values.grad).all()


@each_code
def test_gradients_are_those_of_a_linear_map(code: Code):
    values = torch.randn(code.queries, 2, dtype=torch.float64, requires_grad=True)
    available = mask_without(code, (0,))
    assert torch.autograd.gradcheck(lambda x: code.decode(code.encode(x), available), (values,))


def test_decoders_are_cached_for_each_pattern_and_bounded():
    linear_module._decoder.cache_clear()
    code = make_code("approxifer", queries=8, stragglers=2)
    answers = torch.randn(10, 3)
    for _ in range(3):
        code.decode(answers, mask_without(code, (1, 4)))
        # An equal code made anew shares the cache.
        again = make_code("approxifer", queries=8, stragglers=2)
        again.decode(answers, mask_without(code, (1, 4)))
    info = linear_module._decoder.cache_info()
    assert (info.misses, info.hits) == (1, 5)
    assert info.maxsize is not None
    assert info.maxsize <= 4096


def test_callers_cannot_spoil_the_cache():
    code = berrut_code("authors", 4, 1)
    available = mask_without(code, (1,))
    answers = torch.randn(5, 2)
    before = code.encode(torch.ones(4, 2)), code.decode(answers, available)
    code.encoding_matrix().zero_()
    code.decoding_matrix(available).zero_()
    assert torch.equal(code.encode(torch.ones(4, 2)), before[0])
    assert torch.equal(code.decode(answers, available), before[1])


@each_code
def test_plan_says_what_the_code_does(code: Code):
    plan = code.plan()
    assert (plan.queries, plan.num_workers) == (code.queries, code.num_workers)
    assert len(code.models) == code.num_workers
    assert set(code.models) == {"base", *code.roles}
    assert len(set(code.roles)) == len(code.roles)
    assert "base" not in code.roles
    values = torch.randn(code.queries, 3)
    coded = code.encode(values)
    for worker, query in enumerate(plan.systematic):
        if query is not None:
            assert torch.equal(coded[worker], values[query])
            # Its answer is taken for the query's own prediction.
            assert code.models[worker] == "base"
    assert code.systematic == (plan.systematic[: code.queries] == tuple(range(code.queries)))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_any_quorum_recovers_every_query_and_one_less_does_not_always(data: st.DataObject):
    code = data.draw(
        st.sampled_from([*all_codes(5, 3), make_code("uncoded", queries=5, stragglers=0)])
    )
    quorum = code.plan().quorum
    assert quorum is not None
    order = data.draw(st.permutations(range(code.num_workers)))
    available = torch.zeros(code.num_workers, dtype=torch.bool)
    available[order[:quorum]] = True
    assert code.recoverable(available).all()
    # Losing all copies of query 0 and what else there is beyond S shows the quorum is tight.
    copies = [i for i, query in enumerate(code.plan().systematic) if query == 0]
    rest = [i for i in range(code.num_workers) if i not in copies]
    lost = [*copies, *rest][: code.stragglers + 1]
    assert not code.recoverable(mask_without(code, tuple(lost))).all()


@each_code
def test_bad_arguments_are_named(code: Code):
    k, n = code.queries, code.num_workers
    good, mask = torch.zeros(n, 3), everything(code)
    cases = [
        (lambda: code.encode(torch.zeros(k + 1, 3)), ValueError, "queries must have 4 members"),
        (lambda: code.encode(torch.zeros(k)[0]), ValueError, "queries must have 4 members"),
        (lambda: code.encode({}), ValueError, "queries must hold at least one tensor"),
        (lambda: code.encode({"x": [1, 2]}), TypeError, r"queries\['x'\]\[0\] must be a tensor"),
        (lambda: code.encode(torch.zeros(k, 3), batch_dims=-1), ValueError, "batch_dims"),
        (lambda: code.encode(torch.zeros(k, 3), batch_dims="1"), TypeError, "batch_dims"),
        (
            lambda: code.encode((torch.zeros(2, k), torch.zeros(3, k)), batch_dims=1),
            ValueError,
            r"queries\[1\] must have the batch axes \(2,\)",
        ),
        (lambda: code.decode(torch.zeros(n - 1, 3), mask), ValueError, "predictions must have"),
        (lambda: code.decode(good, mask.int()), TypeError, "available must be a bool tensor"),
        (lambda: code.decode(good, [True] * n), TypeError, "available must be a bool tensor"),
        (lambda: code.decode(good, mask[1:]), ValueError, "available must have one entry"),
        (lambda: code.decode(good, mask.expand(2, -1)), ValueError, "available must have shape"),
        (lambda: code.recoverable(mask[1:]), ValueError, "available must have one entry"),
        (lambda: code.locate(good, mask[1:]), ValueError, "available must have one entry"),
        (lambda: code.decode(good, ~mask), NotRecoverableError, r"queries \[0, 1, 2, 3\]"),
    ]
    for call, error, words in cases:
        with pytest.raises(error, match=words):
            call()


@each_code
def test_the_group_that_cannot_be_recovered_is_named(code: Code):
    masks = torch.ones(3, code.num_workers, dtype=torch.bool)
    masks[1] = False
    with pytest.raises(NotRecoverableError, match="group 1 in the batch"):
        code.decode(torch.zeros(3, code.num_workers, 2), masks, batch_dims=1)


@each_code
def test_integers_are_refused_only_where_they_would_be_combined(code: Code):
    values = torch.arange(code.queries * 2).reshape(code.queries, 2)
    if isinstance(code, LinearCode):
        with pytest.raises(TypeError, match="queries must be floating point"):
            code.encode(values)
        with pytest.raises(TypeError, match="predictions must be floating point"):
            code.decode(torch.zeros(code.num_workers, 2, dtype=torch.int64), everything(code))
    else:
        coded = code.encode(values)
        assert torch.equal(code.decode(coded, mask_without(code, (0,))), values)
