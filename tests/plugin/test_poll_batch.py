"""Our queue under TorchServe's own Model.pollBatch."""

from pathlib import Path

import jpype
import pytest
from plans import plan_json


@pytest.fixture(scope="session")
def fuzz(jvm, tmp_path_factory):
    import ts

    fuzz = jpype.JClass("org.approxifer.torchserve.ts.PollBatchFuzz")
    home = Path(ts.__file__).resolve().parents[1]
    fuzz.configure(str(home), str(tmp_path_factory.mktemp("logs")))
    return fuzz


@pytest.mark.parametrize("batch_size", [1, 8])
def test_every_job_is_answered_exactly_once_under_random_interrupts(fuzz, batch_size):
    plan = plan_json(late_after_ms=2, deadline_ms=60_000)
    result = {str(k): int(v) for k, v in fuzz.run(plan, batch_size, 20_000).items()}
    assert result["answers"] == result["sent"] == 20_000, result
    assert result["twice"] == result["left"] == result["deadlocked"] == 0, result
    assert result["interrupted"] > 100, "the fuzz must have interrupted something"
    assert result["interruptedWithJobs"] > 0, result
    assert (result["batched"] > 0) == (batch_size > 1), result
