"""The screen job: who is found wrong, who is computed again, what hostile answers do."""

import pytest
import torch
from screening_harness import ONE_LIAR, PARITY, Screened, served

from approxifer_torchserve.serving.worker import wire

GROSS = [("huge", 1e6), ("gaussian", 1e4), ("nan", None), ("exponent_gross", None)]


def junk(_):
    return b"junk"


def of_another_shape(blob):
    return wire.encode(torch.cat([wire.decode(blob)] * 2))


def of_another_dtype(blob):
    return wire.encode(wire.decode(blob).double())


def of_another_structure(blob):
    return wire.encode({"scores": wire.decode(blob)})


HOSTILE = [junk, of_another_shape, of_another_dtype, of_another_structure]


@pytest.mark.parametrize("approxifer", [PARITY, ONE_LIAR])
@pytest.mark.parametrize("calibrated", [False, True])
def test_honest_groups_are_left_alone(tmp_path, approxifer, calibrated):
    worker, report = served(tmp_path, approxifer, calibrated)
    clean = 0
    for start in range(0, 200, 10):
        group = Screened(worker, report.plan, start=start)
        clean += group.verdict(group.answers()) == ([], [])
    assert clean >= 18  # at a level of 0.01: fewer once in 1000 times


@pytest.mark.parametrize(("kind", "size"), GROSS)
@pytest.mark.parametrize("liar", [0, 3, 4])
def test_one_parity_tells_that_something_is_wrong_so_all_members_are_suspected(
    tmp_path, liar, kind, size
):
    worker, report = served(tmp_path, PARITY)
    group = Screened(worker, report.plan)
    wrong, suspected = group.verdict(group.answers(liar, kind, size))
    assert liar in wrong
    assert suspected == [0, 1, 2, 3]


@pytest.mark.parametrize(("kind", "size"), GROSS)
@pytest.mark.parametrize("liar", [1, 5, 9])
@pytest.mark.parametrize("calibrated", [False, True])
def test_a_code_that_locates_names_the_liar_and_its_member(tmp_path, liar, kind, size, calibrated):
    worker, report = served(tmp_path, ONE_LIAR, calibrated)
    group = Screened(worker, report.plan)
    expected = ([liar], [liar] if liar < 4 else [])
    assert group.verdict(group.answers(liar, kind, size)) == expected


def test_a_fitted_locator_finds_what_the_default_cannot(tmp_path):
    found = {}
    for calibrated in (False, True):
        folder = tmp_path / str(calibrated)
        folder.mkdir()
        worker, report = served(folder, ONE_LIAR, calibrated)
        found[calibrated] = 0
        for liar in range(10):
            group = Screened(worker, report.plan, start=20 * liar)
            lies = group.answers(liar, "element", 0.1)
            found[calibrated] += liar in group.verdict(lies)[0]
    assert found[True] >= 6 > found[False]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("calibrated", [False, True])
def test_a_lie_in_a_short_group_does_not_outvote_the_parities(tmp_path, size, calibrated):
    """Padding repeats a member: its lie stands in up to K places."""
    worker, report = served(tmp_path, ONE_LIAR, calibrated)
    group = Screened(worker, report.plan, size=size)
    for liar in (*range(size), 9):
        wrong, suspected = group.verdict(group.answers(liar, "huge", 1e6))
        assert wrong
        assert not set(wrong) & set(range(size, 4)), "padding is nobody's answer"
        assert suspected == list(range(size))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_short_group_is_screened_by_its_only_parity(tmp_path, size):
    worker, report = served(tmp_path, PARITY)
    group = Screened(worker, report.plan, size=size)
    assert group.verdict(group.answers()) == ([], [])
    wrong, suspected = group.verdict(group.answers(0, "huge", 1e6))
    assert wrong
    assert suspected == list(range(size))


@pytest.mark.parametrize("hostile", HOSTILE)
def test_an_answer_of_another_kind_is_wrong_and_the_others_are_not(tmp_path, hostile):
    worker, report = served(tmp_path, ONE_LIAR)
    group = Screened(worker, report.plan)
    blobs = group.answers()
    blobs[2] = hostile(blobs[2])
    assert group.verdict(blobs) == ([2], [2])
    # It is the one liar of this code: nobody else may be suspected beside it.
    blobs = {**group.answers(0, "huge", 1e6), 2: blobs[2]}
    assert group.verdict(blobs) == ([2], [2])


def test_answers_that_are_all_of_different_kinds_cannot_be_compared(tmp_path):
    worker, report = served(tmp_path, PARITY)
    group = Screened(worker, report.plan)
    blobs = group.answers()
    for index in (0, 1, 2):
        blobs[index] = HOSTILE[index](blobs[index])
    header = group.screen(blobs)
    assert "predictions differ in structure" in header["error"]["message"]
    header = group.screen(dict.fromkeys(blobs, b""))
    assert "predictions differ in structure" in header["error"]["message"]


def test_missing_answers_and_how_few_are_enough(tmp_path):
    late = {"code": {**PARITY["code"], "stragglers": 2}, **{"policy": PARITY["policy"]}}
    worker, report = served(tmp_path, late)
    assert report.plan.screen_quorum == 5
    group = Screened(worker, report.plan)
    for lost in range(6):
        blobs = group.answers((lost + 1) % 6, "huge", 1e6)
        del blobs[lost]
        wrong, suspected = group.verdict(blobs)
        assert (lost + 1) % 6 in wrong
        assert suspected == [i for i in range(4) if i != lost]
    blobs = group.answers()
    del blobs[0], blobs[5]
    header = group.screen(blobs)
    assert "expected 5 coded queries or more, got 4" in header["error"]["message"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 0}, "job.size: expected 1..4, got 0"),
        ({"size": 5}, "job.size: expected 1..4, got 5"),
        ({"available": [0, 1, 2, 3, 7]}, "job.available"),
        ({"available": [0, 1, 2, 3, 4, 4]}, None),
        ({"size": 2}, "coded queries [2, 3] are padding of a group of 2"),
        ({"available": []}, "expected 5 coded queries or more, got 0"),
    ],
)
def test_a_screen_that_cannot_be_understood_says_why(tmp_path, change, said):
    worker, report = served(tmp_path, PARITY)
    group = Screened(worker, report.plan)
    header = group.screen(group.answers(), **change)
    if said is None:
        assert header["wrong"] == []
    else:
        assert said in header["error"]["message"]


def test_a_prediction_that_did_not_come_is_named_and_a_batch_mate_is_not_disturbed(tmp_path):
    worker, report = served(tmp_path, PARITY)
    group = Screened(worker, report.plan)
    blobs = group.answers()
    job = group.job({i: blobs[i] for i in (0, 1, 2, 3)}, available=[0, 1, 2, 3, 4])
    (screen, (raw, sections)) = worker.reply(job, worker.raw("a", group.members[0]))
    assert "parameter p4 did not come" in screen[0]["error"]["message"]
    assert raw["kind"] == "raw"
    torch.testing.assert_close(wire.decode(sections["prediction"]), wire.decode(blobs[0]))


def test_an_archive_without_screens_says_so(tmp_path):
    worker, report = served(tmp_path, {"code": PARITY["code"]})
    group = Screened(worker, report.plan)
    header = group.screen(group.answers())
    assert "this archive's plan asks for no screens" in header["error"]["message"]
    other = tmp_path / "whole"
    other.mkdir()
    pair = {**PARITY, "policy": {"verify": "pair"}}
    worker, _ = served(other, pair)
    assert "no screens" in Screened(worker, _.plan).screen(group.answers())["error"]["message"]


def test_scalars_and_trees_of_predictions_are_screened(tmp_path):
    worker, report = served(tmp_path, ONE_LIAR)
    group = Screened(worker, report.plan)
    truth = [wire.decode(blob) for blob in group.answers().values()]
    # Heads of one number each: no features axis on the wire.
    heads = {i: {"a": row[0], "b": row[1:]} for i, row in enumerate(truth)}
    blobs = {i: wire.encode(tree) for i, tree in heads.items()}
    assert group.verdict(blobs) == ([], [])
    blobs[3] = wire.encode({"a": heads[3]["a"] * 1e7, "b": heads[3]["b"]})
    assert group.verdict(blobs) == ([3], [3])
