"""Weights that not every worker has: who holds them, and answers reconstructed with them.

The model is affine, so that its parity's weights are computed and what they give is exact.
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from live_server import net, until

MODEL, WORKERS, QUERIES = "summed", 4, 3
PATIENCE_S = 60
ASK = b"WHOSE WEIGHTS"


@pytest.fixture(scope="module")
def summed(live):
    live.cluster.register(f"{MODEL}.mar")
    live.recovered(MODEL, WORKERS)
    yield live
    live.delay({})
    live.quiet(MODEL)
    live.cluster.unregister(MODEL)


def holders(live):
    """What the router says: process ids of the workers that are to hold the parity's weights."""
    told, pids = live.state(MODEL)["workers"], live.cluster.describe(MODEL)[0].workers
    return [worker.pid for worker in pids if told[worker.id]["weights"] == ["parity"]]


def loaded(live):
    """What workers say: process ids in their log lines about weights that they loaded."""
    log = (live.server.log_dir / "model_log.log").read_text(errors="replace")
    return [int(pid) for pid in re.findall(r"weights of parity: loaded .* process (\d+)", log)]


def in_memory(live):
    """What is in the workers' memory: the first bias of each network there, by process id."""
    pids = set(live.pids(MODEL))
    live.delay(dict.fromkeys(pids, 0.1))  # so that none is asked twice before all are asked
    options = {"headers": {"x-approxifer-accept": "exact-only"}}
    told, end = {}, time.monotonic() + 30
    try:
        while set(told) != pids:
            assert time.monotonic() < end, told
            with ThreadPoolExecutor(len(pids)) as pool:
                for reply in pool.map(lambda _: live.post(MODEL, ASK, **options), pids):
                    found = re.search(r"biases \[(.*)\] in process (\d+)", reply.json()["message"])
                    told[int(found[2])] = [float(bias) for bias in found[1].split(", ")]
    finally:
        live.delay({})
    return told


def group(live, number):
    """Three queries at once: their outcomes, after each answer has been compared."""
    inputs = torch.rand(QUERIES, 64, generator=torch.Generator().manual_seed(number))
    with ThreadPoolExecutor(QUERIES) as pool:
        replies = list(pool.map(lambda row: live.post(MODEL, row.numpy().tobytes()), inputs))
    with torch.no_grad():
        right = net()(inputs)
    for reply, row in zip(replies, right, strict=True):
        assert reply.status_code == 200, reply.text
        torch.testing.assert_close(torch.tensor(reply.json()), row, atol=1e-4, rtol=0)
    return [reply.headers["x-approxifer-outcome"] for reply in replies]


def reconstruct(live):
    """Sends groups while a worker that holds no weights is slow, until an answer is decoded.

    Who gets which query is the router's choice: a worker that was slow gets none for a while, and
    one that is done with its query gets the next. So they take turns, and all take some time.
    """
    number, end = 0, time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        number += 1
        pids = live.pids(MODEL)
        others = sorted(set(pids) - set(holders(live)))
        live.delay({**dict.fromkeys(pids, 0.05), others[number % len(others)]: 1.5})
        try:
            outcomes = group(live, number)
        finally:
            live.delay({})
        assert set(outcomes) <= {"exact", "reconstructed"}
        if "reconstructed" in outcomes:
            return
    raise AssertionError(f"no answer of {number} groups was reconstructed")


def test_reconstructed_answers_are_exact_and_one_worker_holds_the_weights(summed):
    own = round(bias := net().linear.bias[0].item(), 3)
    assert set(map(tuple, in_memory(summed).values())) == {(own,)}
    assert loaded(summed) == [], "nobody has asked for a parity"
    reconstruct(summed)
    (holder,) = holders(summed)
    assert loaded(summed) == [holder]
    told = in_memory(summed)
    parity = sorted([own, round(QUERIES * bias, 3)])
    assert told.pop(holder) == pytest.approx(parity, abs=2e-3)
    assert list(told.values()) == [[own]] * (WORKERS - 1)


def test_another_worker_gets_the_weights_when_their_holder_is_killed(summed):
    reconstruct(summed)
    (victim,) = holders(summed)
    before, seat = loaded(summed), summed.id_of(MODEL, victim)
    summed.kill(victim)
    until(lambda: holders(summed) not in ([], [victim]))
    (heir,) = holders(summed)
    assert summed.id_of(MODEL, heir) != seat
    reconstruct(summed)
    summed.recovered(MODEL, WORKERS, without=[victim])
    for number in range(5):
        group(summed, 100 + number)
    assert holders(summed) == [heir]
    assert loaded(summed) == [*before, heir]
    told = in_memory(summed)
    assert len(told.pop(heir)) == 2
    assert [len(nets) for nets in told.values()] == [1] * (WORKERS - 1)
