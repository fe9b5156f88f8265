from __future__ import annotations

import pytest
import torch

from approxifer_torchserve.codes import make_code
from approxifer_torchserve.evaluation import (
    Evaluator,
    SharedForwards,
    group_alike,
    make_cases,
    order_by_similarity,
)
from approxifer_torchserve.evaluation.grouping import take


def linear(inputs: torch.Tensor) -> torch.Tensor:
    draw = torch.Generator().manual_seed(3)
    return inputs @ torch.randn(6, 4, generator=draw)


def queries(groups: int = 5, size: int = 4) -> torch.Tensor:
    return torch.randn(groups, size, 6, generator=torch.Generator().manual_seed(4))


def test_forwards_are_shared_and_right():
    codes = [
        make_code("uncoded", queries=4, stragglers=0),
        make_code("approxifer", queries=4, stragglers=1),
        make_code("approxifer", queries=4, stragglers=3),
        make_code("approxifer", queries=4, stragglers=1, systematic=False),
        make_code("replication", queries=4, stragglers=1),
    ]
    shared = SharedForwards(codes)
    counted = 0

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        nonlocal counted
        counted += len(inputs)
        return linear(inputs)

    base, answers = shared(forward, queries(), batch_size=7)
    assert counted == 5 * shared.forwards_per_group
    assert shared.forwards_per_group < sum(code.num_workers for code in codes)
    torch.testing.assert_close(base, linear(queries()))
    for code, given in zip(codes, answers, strict=True):
        torch.testing.assert_close(given, linear(code.encode(queries(), batch_dims=1)))


def test_several_s_of_the_systematic_code_share_parities():
    one = SharedForwards([make_code("approxifer", queries=8, stragglers=1)])
    three = SharedForwards([make_code("approxifer", queries=8, stragglers=s) for s in (1, 2, 3)])
    assert (one.forwards_per_group, three.forwards_per_group) == (9, 11)


def test_codes_of_different_k_or_other_weights_are_refused():
    with pytest.raises(ValueError, match="one value of queries"):
        SharedForwards([make_code("uncoded", queries=k, stragglers=0) for k in (2, 3)])


def test_weights_of_a_code_s_own_answer_its_parities_and_nothing_else():
    codes = [
        make_code("approxifer", queries=4, stragglers=1),
        make_code("parm", queries=4, stragglers=1),
        make_code("parm", queries=4, stragglers=2),
    ]
    seen: dict[str, list[torch.Tensor]] = {}

    def model(role: str, factor: float):
        def forward(inputs: torch.Tensor) -> torch.Tensor:
            seen.setdefault(role, []).append(inputs)
            return factor * linear(inputs)

        return forward

    weights = {
        role: model(role, 10.0 + i) for i, role in enumerate(("parity", "parity0", "parity1"))
    }
    shared = SharedForwards(codes, weights)
    # parity and parity0 get the same sum, but their answers are their own.
    assert shared.forwards_per_group == 5 + 1 + 2
    base, (plain, one, two) = shared(model("base", 1.0), queries(), batch_size=7)
    torch.testing.assert_close(base, linear(queries()))
    torch.testing.assert_close(plain, linear(codes[0].encode(queries(), batch_dims=1)))
    own = linear(codes[2].encode(queries(), batch_dims=1))
    torch.testing.assert_close(one[:, :4], own[:, :4])
    torch.testing.assert_close(two[:, :4], own[:, :4])
    torch.testing.assert_close(one[:, 4], 10 * own[:, 4])
    torch.testing.assert_close(two[:, 4], 11 * own[:, 4])
    torch.testing.assert_close(two[:, 5], 12 * own[:, 5])
    counts = {role: sum(len(inputs) for inputs in calls) for role, calls in seen.items()}
    assert counts == {"base": 25, "parity": 5, "parity0": 5, "parity1": 5}


@pytest.mark.parametrize(
    ("stragglers", "given", "words"),
    [
        (1, (), r"expected .* \['parity'\], got \[\].*--weights parity=FILE"),
        (2, ("parity1",), r"got \['parity1'\].*--weights parity0=FILE"),
        (
            2,
            ("parity", "parity0", "parity1"),
            r"expected names that the codes use.*\['parity'\] too",
        ),
    ],
)
def test_missing_and_unknown_weights_are_named(stragglers: int, given: tuple, words: str):
    cases = make_cases(["parm", "uncoded"], 4, [stragglers])
    with pytest.raises(ValueError, match=words):
        Evaluator(cases, weights=dict.fromkeys(given, linear))


def test_a_perfect_parity_loses_nothing_and_a_foolish_one_does():
    cases = make_cases(["parm"], 4, [1])
    targets = linear(queries(50)).argmax(dim=2)
    found = {}
    # A linear model is its own perfect parity.
    for name, parity in (("perfect", linear), ("foolish", lambda inputs: -linear(inputs))):
        evaluator = Evaluator(cases, weights={"parity": parity})
        evaluator.update(linear, queries(50), targets)
        found[name] = evaluator.compute()[0]["output"]
    assert found["perfect"].lost_only == found["perfect"].overall == 1.0
    assert found["foolish"].healthy == 1.0
    assert found["foolish"].lost_only < 0.3


def test_weights_that_answer_in_another_form_and_other_domains_are_refused():
    cases = make_cases(["parm"], 4, [1])
    evaluator = Evaluator(cases, weights={"parity": lambda inputs: linear(inputs)[:, :2]})
    with pytest.raises(ValueError, match=r"expected 'parity' to answer in the form"):
        evaluator.update(linear, queries(), linear(queries()).argmax(dim=2))
    with pytest.raises(ValueError, match="domain: expected logits"):
        Evaluator(cases, weights={"parity": linear}, domain="probabilities")


def test_no_code_answers_with_the_guess():
    (case,) = make_cases(["uncoded"], 4, [1])
    evaluator = Evaluator([case])
    targets = linear(queries()).argmax(dim=2)
    targets[:, 0] = 3
    guess = torch.tensor([0.0, 0.0, 0.0, 1.0])
    evaluator.update(linear, queries(), targets, guess)
    scores = evaluator.compute()[0]["output"]
    assert scores.lost_only == pytest.approx((targets == 3).double().mean().item())
    assert scores.positions[0] == 1.0
    fine = (linear(queries()).argmax(dim=2) == targets).double().mean().item()
    assert scores.healthy == scores.base == pytest.approx(fine)


def test_a_group_of_equal_queries_is_decoded_as_the_model_answers():
    cases = make_cases(["approxifer", "approxifer:nodes=paper"], 4, [1, 2])
    same = queries()[:, :1].expand(5, 4, 6).contiguous()
    evaluator = Evaluator(cases)
    evaluator.update(linear, same, linear(same).argmax(dim=2))
    for found in evaluator.compute():
        scores = found["output"]
        assert scores.overall == scores.lost_only == scores.agreement == scores.healthy == 1.0


def test_several_heads_have_their_own_scores():
    def forward(inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"digit": linear(inputs), "size": inputs.sum(dim=1, keepdim=True)}

    targets = {
        "digit": linear(queries()).argmax(dim=2),
        "size": queries().sum(dim=2, keepdim=True) * 2,
        "unused": torch.zeros(5, 4),
    }
    evaluator = Evaluator(make_cases(["approxifer"], 4, [1]))
    evaluator.update(forward, queries(), targets)
    (found,) = evaluator.compute()
    assert evaluator.heads == {"digit": "multiclass", "size": "regression"}
    assert found["digit"].healthy == 1.0
    assert found["size"].healthy == pytest.approx(0.5)


def test_heads_without_targets_are_refused():
    evaluator = Evaluator(make_cases(["approxifer"], 4, [1]))
    with pytest.raises(ValueError, match="targets: expected one tensor, or the outputs' parts"):
        evaluator.update(lambda x: {"a": x, "b": x}, queries(), {"a": queries(), "c": queries()})


def test_wrong_answers_are_outvoted_by_replication_and_counted():
    (voted, none) = make_cases(["replication", "uncoded"], 4, [1], byzantine=1)
    evaluator = Evaluator([voted, none], error_scale=100.0, max_patterns=8)
    big = queries(40)
    evaluator.update(linear, big, linear(big).argmax(dim=2))
    with_vote, without = (found["output"] for found in evaluator.compute())
    assert with_vote.overall == 1.0
    assert without.overall < 0.9
    rates, nothing = evaluator.compute_locators()
    assert nothing is None
    assert rates == {
        "hits": 1.0, "false_suspicions": 0.0, "exact": 1.0, "clean_false_suspicions": 0.0,
    }  # fmt: skip


def test_approxifer_s_own_locator_is_rated():
    (case,) = make_cases(["approxifer:nodes=authors"], 4, [0], byzantine=1)
    evaluator = Evaluator([case], error_scale=100.0)
    big = queries(100)
    evaluator.update(lambda x: torch.tanh(linear(x)), big, linear(big).argmax(dim=2))
    (rates,) = evaluator.compute_locators()
    assert rates is not None
    assert rates["hits"] > 0.9
    assert rates["false_suspicions"] < 0.1
    assert rates["clean_false_suspicions"] < 0.2


def test_the_kind_of_errors_decides_what_they_cost():
    cases = make_cases(["uncoded"], 4, [0], byzantine=1)
    big = queries(100)
    overall = {}
    for kind in ("sign_flip", "gaussian"):
        evaluator = Evaluator(cases, error_kind=kind, error_scale=1e-9)
        evaluator.update(linear, big, linear(big).argmax(dim=2))
        overall[kind] = evaluator.compute()[0]["output"].overall
    # One answer of four has its sign changed, and the best class is the worst.
    assert overall == {"sign_flip": 0.75, "gaussian": 1.0}
    with pytest.raises(ValueError, match="error_kind: expected one of"):
        Evaluator(cases, error_kind="typo")


def test_sums_can_be_taken_up_again():
    cases = make_cases(["approxifer", "uncoded"], 4, [1])
    whole, half, rest = Evaluator(cases), Evaluator(cases), Evaluator(cases)
    big = queries(10)
    targets = torch.randint(4, (10, 4), generator=torch.Generator().manual_seed(0))
    guess = torch.zeros(4)
    whole.update(linear, big, targets, guess)
    half.update(linear, big[:4], targets[:4], guess)
    rest.prepare(linear(big[0]), targets[0])
    rest.load_sums(half.sums(), half.groups)
    rest.update(linear, big[4:], targets[4:], guess)
    assert [f["output"].as_dict() for f in rest.compute()] == [
        f["output"].as_dict() for f in whole.compute()
    ]
    assert rest.groups == 10


@pytest.mark.parametrize("domain", ["probabilities", "log_probabilities"])
def test_probabilities_decode_otherwise_and_their_logarithms_do_not(domain: str):
    cases = make_cases(["approxifer"], 4, [1])
    plain, other = Evaluator(cases), Evaluator(cases, domain=domain)
    big = queries(200)
    targets = linear(big).argmax(dim=2)
    for evaluator in (plain, other):
        evaluator.update(lambda x: 5 * linear(x), big, targets)
    before, after = (e.compute()[0]["output"] for e in (plain, other))
    assert before.healthy == after.healthy == 1.0
    # A logarithm of probabilities is a logit less one number for each answer. The decoder's rows
    # sum to 1, so that number moves all classes alike and changes no decision.
    assert (before.lost_only == after.lost_only) == (domain == "log_probabilities")
    with pytest.raises(ValueError, match=r"domain: .* is for multiclass"):
        Evaluator(cases, domain=domain).update(linear, big, linear(big))


def test_half_precision_answers_are_widened():
    base, _ = SharedForwards([make_code("approxifer", queries=4, stragglers=1)])(
        lambda x: linear(x).bfloat16(), queries()
    )
    assert base.dtype == torch.float32


def test_orders_are_permutations_and_shorten_the_path():
    points = queries(20, 8)
    order = order_by_similarity(points)
    assert order.sort(dim=1).values.tolist() == [list(range(8))] * 20
    ordered = points.gather(1, order[..., None].expand(-1, -1, 6))

    def length(x: torch.Tensor) -> float:
        return (x[:, 1:] - x[:, :-1]).norm(dim=2).sum().item()

    assert length(ordered) < 0.9 * length(points)


def test_alike_groups_are_tighter_and_use_each_query_once():
    points = queries(1, 64)[0]
    chosen = group_alike(points, 8)
    assert sorted(chosen.flatten().tolist()) == list(range(64))

    def spread(groups: torch.Tensor) -> float:
        return groups.var(dim=1).sum().item()

    assert spread(take(points, chosen)) < 0.8 * spread(points.reshape(8, 8, 6))
