"""What the router holds of requests that have been answered."""

import gc

import jpype
import pytest

BLOBS = [(f"coded{i}", b"c") for i in range(4)]


def gone(reference):
    """True once nothing in Java holds it."""
    for _ in range(5):
        gc.collect()
        jpype.java.lang.System.gc()
        if reference.get() is None:
            return True
    return False


@pytest.mark.parametrize("frozen", [False, True])
def test_a_settled_coded_group_lets_its_members_bodies_go(bench, core, frozen):
    """A job that a frozen worker holds, or the group's timer, would keep them for seconds."""
    b = bench(mode="coded", deadline_ms=60_000)
    b.live(*(f"900{i}" for i in range(6)))
    clients = [core.JavaClient(jpype.java.lang.Thread.currentThread()) for _ in range(3)]
    bodies = [jpype.java.lang.ref.WeakReference(client.request()) for client in clients]
    for client in clients:
        b.router.offer(client)
    b.reply(b.poll("9000"), BLOBS)
    jobs = [b.poll(f"900{i}") for i in range(4)]
    for i in range(3 if frozen else 4):
        b.reply(jobs[i], [("prediction", b"p")])
    b.advance(101)
    decode = b.poll("9004")
    assert not gone(bodies[0])
    answers = {str(i): {"section": f"answer{i}", "status": 200} for i in range(3)}
    b.reply(decode, [(f"answer{i}", b"a") for i in range(3)], answers=answers)
    assert [str(client.outcome()) for client in clients] == ["reconstructed"] * 3
    held = jobs[3] if frozen else None
    del client, clients, decode, jobs
    assert all(gone(body) for body in bodies)
    assert (held is not None) == frozen
