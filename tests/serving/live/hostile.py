"""What the tests about hostile clients share: what a refusal is, and that nobody else was hurt."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from live_server import png, same

MODELS = ("tiny", "classic", "mending")
VECTORS = Path(__file__).parents[1] / "unit" / "models" / "vector_handler.py"
JSON = {"content-type": "application/json"}
few = settings(
    max_examples=12,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def unhurt(live):
    before = {model: sorted(live.pids(model)) for model in (*MODELS, "plain")}
    yield
    for model in MODELS:
        state = live.quiet(model)
        assert state["ready"]
        assert all(worker["unanswered"] == 0 for worker in state["workers"].values())
        assert same(live.post(model, png(1), headers=EXACT).json(), 1)
    assert before == {model: sorted(live.pids(model)) for model in before}, "a worker died"
    assert live.http.get("/ping").json() == {"status": "Healthy"}


EXACT = {"x-approxifer-accept": "exact-only"}


def refused(reply, *statuses):
    """A refusal with a reason that says nothing of the machine's inside."""
    assert reply.status_code in statuses, (reply.status_code, reply.text[:300])
    body = reply.json()
    assert body["message"]
    assert not re.search(r"0x[0-9a-f]{6}|Traceback|/tmp/", reply.text)
    return body["message"]
