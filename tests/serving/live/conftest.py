"""One real TorchServe with the plugin for all tests of this folder: four models, nine workers.

The fixture starts it at the first test that asks. Tests that need a server of their own are in
``tests/serving/alone``, which pytest runs before this folder: never two servers at a time.
"""

import pytest
from live_server import Live, Load

from approxifer_torchserve.serving.server.launcher import TorchServe
from approxifer_torchserve.serving.server.options import ServerOptions


@pytest.fixture(scope="session")
def live(store, tmp_path_factory):
    faults = tmp_path_factory.mktemp("faults") / "faults.json"
    faults.write_text("{}")
    environment = {
        "APPROXIFER_FAULTS": str(faults),
        "APPROXIFER_PING": "ready",
        "TS_OPEN_INFERENCE_PROTOCOL": "oip",  # ModelInfer over gRPC
        "APPROXIFER_FAKE_GPUS": "4",  # no CUDA here: workers are told a GPU, compute on the CPU
    }
    options = ServerOptions(environment=environment, response_timeout=60)
    with TorchServe(store, options) as server:
        live = Live(server, faults)
        # TorchServe's own token check is on: REST needs it too.
        live.http.headers["Authorization"] = f"Bearer {server.token('inference')}"
        for name, workers in (("plain", 1), ("tiny", None), ("classic", None), ("mending", None)):
            live.cluster.register(f"{name}.mar", workers=workers)
        yield live
        live.grpc.close()
        live.cluster.close()
        live.http.close()


@pytest.fixture
def load(live):
    return lambda model, **options: Load(live, model, **options)
