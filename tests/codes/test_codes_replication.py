from __future__ import annotations

import pytest
import torch

from approxifer_torchserve.codes import NotRecoverableError, Replication, Uncoded, make_code


def replication(queries: int, stragglers: int, byzantine: int = 0, **options: float) -> Replication:
    code = make_code(
        "replication", queries=queries, stragglers=stragglers, byzantine=byzantine, **options
    )
    assert isinstance(code, Replication)
    return code


def test_copies_are_laid_out_one_after_the_other():
    code = replication(3, 1)
    coded = code.encode(torch.tensor([10.0, 20.0, 30.0]))
    assert coded.tolist() == [10.0, 20.0, 30.0, 10.0, 20.0, 30.0]
    plan = code.plan()
    assert plan.mode == "replicated"
    assert plan.systematic == (0, 1, 2, 0, 1, 2)
    assert (plan.copies, plan.num_workers, plan.quorum) == (2, 6, 5)
    assert replication(3, 1, 2).copies == 1 + 2 * 2 + 1


def test_the_first_copy_that_came_is_taken():
    code = replication(2, 2)
    answers = torch.arange(6.0)
    available = torch.tensor([False, True, True, True, True, False])
    assert code.decode(answers, available).tolist() == [2.0, 1.0]
    available = torch.tensor([False, True, False, True, False, False])
    assert code.recoverable(available).tolist() == [False, True]
    with pytest.raises(NotRecoverableError, match=r"queries \[0\]") as caught:
        code.decode(answers, available)
    assert caught.value.queries == (0,)


@pytest.mark.parametrize("byzantine", [1, 2])
@pytest.mark.parametrize("stragglers", [0, 1])
def test_wrong_copies_are_outvoted(byzantine: int, stragglers: int):
    code = replication(3, stragglers, byzantine)
    generator = torch.manual_seed(byzantine)
    truth = torch.randn(3, 10, generator=generator)
    for _ in range(50):
        # Workers differ a little; the liars of a group all tell the same lie about any query.
        answers = code.encode(truth) + 1e-6 * torch.randn(code.num_workers, 10, generator=generator)
        order = torch.randperm(code.num_workers, generator=generator)
        liars, lost = order[:byzantine], order[byzantine : byzantine + stragglers]
        answers[liars] += 5.0
        available = torch.ones(code.num_workers, dtype=torch.bool)
        available[lost] = False
        answers[lost] = float("nan")
        wrong = code.locate(answers, available)
        assert set(wrong.nonzero().flatten().tolist()) == set(liars.tolist())
        torch.testing.assert_close(code.decode(answers, available), truth, rtol=0, atol=1e-4)
        cleaned = available & ~wrong
        assert torch.equal(code.decode(answers, cleaned), code.decode(answers, available))


def test_a_copy_that_lies_in_one_leaf_only_is_wrong():
    code = replication(2, 0, 1)
    answers = {"logits": torch.ones(6, 3), "label": torch.arange(2).repeat(3)}
    answers["label"][3] = 7
    everything = torch.ones(6, dtype=torch.bool)
    assert code.locate(answers, everything).tolist() == [False, False, False, True, False, False]
    assert code.decode(answers, everything)["label"].tolist() == [0, 1]


def test_nan_is_wrong_and_no_majority_is_an_error():
    code = replication(1, 0, 1)
    everything = torch.ones(3, dtype=torch.bool)
    answers = torch.tensor([[float("nan")], [2.0], [2.0]])
    assert code.locate(answers, everything).tolist() == [True, False, False]
    assert code.decode(answers, everything).tolist() == [[2.0]]
    answers = torch.tensor([[1.0], [2.0], [3.0]])
    assert code.locate(answers, everything).all()
    with pytest.raises(NotRecoverableError):
        code.decode(answers, everything)


def test_tolerance_is_an_option():
    answers = torch.tensor([[100.0], [100.05], [101.0]])
    everything = torch.ones(3, dtype=torch.bool)
    assert replication(1, 0, 1).locate(answers, everything).tolist() == [False, False, True]
    strict = replication(1, 0, 1, rtol=0.0, atol=0.0)
    assert strict.locate(answers, everything).all()
    loose = replication(1, 0, 1, rtol=0.1)
    assert not loose.locate(answers, everything).any()
    for bad in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="rtol must be finite and at least 0"):
            replication(1, 0, 1, rtol=bad)
    with pytest.raises(TypeError, match="atol must be a number"):
        make_code("replication", queries=1, stragglers=1, atol="small")


def test_votes_are_taken_in_each_group_of_a_batch():
    code = replication(2, 0, 1)
    answers = torch.zeros(3, 6, 4, dtype=torch.bfloat16)
    answers[0, 1], answers[2, 4] = 9.0, 9.0
    everything = torch.ones(6, dtype=torch.bool)
    wrong = code.locate(answers, everything, batch_dims=1)
    assert wrong.nonzero().tolist() == [[0, 1], [2, 4]]
    assert (code.decode(answers, everything, batch_dims=1) == 0).all()


def test_uncoded_passes_through_and_raises_on_any_erasure():
    code = make_code("uncoded", queries=4, stragglers=0)
    assert isinstance(code, Uncoded)
    values = torch.randn(4, 3)
    everything = torch.ones(4, dtype=torch.bool)
    assert torch.equal(code.decode(code.encode(values), everything), values)
    plan = code.plan()
    assert (plan.mode, plan.quorum, plan.systematic) == ("uncoded", 4, (0, 1, 2, 3))
    for lost in range(4):
        available = everything.clone()
        available[lost] = False
        assert torch.equal(code.recoverable(available), available)
        with pytest.raises(NotRecoverableError) as caught:
            code.decode(values, available)
        assert caught.value.queries == (lost,)
    for argument in ("stragglers", "byzantine"):
        with pytest.raises(ValueError, match=f"{argument} must be 0"):
            make_code("uncoded", **{"queries": 4, "stragglers": 0, argument: 1})


def test_half_of_the_copies_is_no_majority():
    code = replication(1, 1, 1)
    everything = torch.ones(4, dtype=torch.bool)
    assert code.locate(torch.tensor([[1.0], [1.0], [2.0], [2.0]]), everything).all()


def test_a_lone_copy_is_not_believed_where_workers_may_lie():
    code = replication(2, 1, 1)
    available = torch.tensor([True, True, False, True, False, False, False, False])
    assert code.recoverable(available).tolist() == [False, True]
    with pytest.raises(NotRecoverableError, match=r"queries \[0\]"):
        code.decode(torch.zeros(8, 2), available)
