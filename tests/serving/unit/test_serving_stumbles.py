"""TorchServe answers 500 when it takes a busy worker away and loses a race with itself."""

import pytest

from approxifer_torchserve.serving.server import cluster as module
from approxifer_torchserve.serving.server.cluster import Cluster, ClusterError

RACE = "TorchServe answered 500: {'code': 500, 'type': 'ConcurrentModificationException'}"


@pytest.fixture
def torchserve(monkeypatch):
    """A Management API with one model; `stumbles` calls that remove workers answer 500."""

    class Api:
        workers, stumbles, puts = 5, 0, 0
        registered, leaves = True, True

    def call(self, method, path, **params):
        if not Api.registered:
            raise ClusterError("TorchServe answered 404", 404)
        if method == "PUT":
            Api.puts += 1
            if Api.stumbles and params["min_worker"] < Api.workers:
                Api.stumbles -= 1
                Api.workers -= 1
                raise ClusterError(RACE, 500)
            Api.workers = params["min_worker"]
        elif method == "DELETE":
            Api.registered = not Api.leaves
            raise ClusterError(RACE, 500)
        ready = [{"id": str(n), "pid": 100 + n, "status": "READY"} for n in range(Api.workers)]
        return [{"modelName": "m", "modelVersion": "1.0", "workers": ready}]

    monkeypatch.setattr(Cluster, "_call", call)
    monkeypatch.setattr(module, "POLL_S", 0)
    return Api


def test_scaling_down_goes_on_where_torchserve_stumbled(torchserve):
    torchserve.stumbles = 3
    assert Cluster().scale("m", 1).ready == 1
    assert torchserve.puts == 4


def test_but_not_for_ever(torchserve):
    torchserve.stumbles, torchserve.workers = 1000, 1000
    with pytest.raises(ClusterError, match="ConcurrentModification"):
        Cluster().scale("m", 1)
    assert torchserve.puts < 100


def test_a_model_that_is_gone_was_removed_whatever_the_status(torchserve):
    assert Cluster().unregister("m") is True
    assert Cluster().unregister("m") is False


def test_a_model_that_is_still_there_was_not(torchserve):
    torchserve.leaves = False
    with pytest.raises(ClusterError, match="ConcurrentModification"):
        Cluster().unregister("m")
