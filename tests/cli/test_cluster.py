"""The Management API's client, against a server that answers as TorchServe does."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from approxifer_torchserve.serving.server.cluster import Cluster, ClusterError, Worker


class FakeApi(BaseHTTPRequestHandler):
    """Registers one model; each look at it finds one more worker ready."""

    def _reply(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _error(self, status, kind, message):
        self._reply(status, {"code": status, "type": kind, "message": message})

    def log_message(self, *_):
        pass

    def _handle(self):
        state = self.server.state
        split = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(split.query).items()}
        state["calls"].append((self.command, split.path, query))
        if self.headers.get("Authorization") != "Bearer right":
            return self._error(400, "InvalidKeyException", "Token Authorization failed. Token ...")
        models = state["models"]
        parts = split.path.strip("/").split("/")
        if len(parts) == 1 and self.command == "GET":
            entries = [{"modelName": n, "modelUrl": m["url"]} for n, m in models.items()]
            return self._reply(200, {"models": entries})
        if len(parts) == 1:
            if query["url"] == "missing.mar":
                return self._error(404, "ModelNotFoundException", "Model not found at: missing.mar")
            name = query.get("model_name", "digits")
            if name in models:
                return self._error(409, "ConflictStatusException", "Model version 1.0 is already")
            models[name] = {"url": query["url"], "min": state["min"], "ready": 0}
            return self._reply(202, {"status": "Processing worker updates..."})
        model = models.get(parts[1])
        if model is None:
            return self._error(404, "ModelNotFoundException", f"Model not found: {parts[1]}")
        if self.command == "PUT":
            model["min"] = int(query["min_worker"])
            model["ready"] = min(model["ready"], model["min"])
            return self._reply(202, {"status": "Processing worker updates..."})
        if self.command == "DELETE":
            del models[parts[1]]
            return self._reply(200, {"status": "unregistered"})
        workers = [
            {
                "id": str(9000 + i),
                "status": "READY" if i < model["ready"] else "UNLOADING",
                "pid": 100 + i if i < model["ready"] else -1,
                "gpu": False,
            }
            for i in range(model["min"])
        ]
        model["ready"] = min(model["ready"] + 1, state["most"])
        describe = {
            "modelName": parts[1], "modelVersion": "1.0", "modelUrl": model["url"],
            "minWorkers": model["min"], "workers": workers,
            "jobQueueStatus": {"remainingCapacity": 100, "pendingRequests": 0},
        }  # fmt: skip
        return self._reply(200, [describe])

    do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815


@pytest.fixture
def api(monkeypatch):
    monkeypatch.setattr("approxifer_torchserve.serving.server.cluster.POLL_S", 0.001)
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeApi)
    server.state = {"calls": [], "models": {}, "min": 3, "most": 99}
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cluster(api):
    with Cluster(f"http://127.0.0.1:{api.server_port}", "right") as cluster:
        yield cluster


def test_register_waits_and_never_asks_synchronously(api, cluster):
    seen = []
    model = cluster.register("digits.mar", progress=lambda ready, wanted: seen.append(ready))
    assert (model.model_name, model.ready) == ("digits", 3)
    assert seen == sorted(seen)
    assert seen[-1] == 3
    changes = [query for command, _, query in api.state["calls"] if command in ("POST", "PUT")]
    assert changes
    assert all(query["synchronous"] == "false" for query in changes)


def test_asked_number_of_workers_outranks_the_archive(api, cluster):
    assert cluster.register("digits.mar", workers=5).ready == 5


def test_register_twice_is_not_an_error(api, cluster):
    cluster.register("digits.mar")
    assert cluster.register("digits.mar").model_name == "digits"


def test_workers_that_do_not_come_are_named(api, cluster):
    api.state["most"] = 2
    with pytest.raises(ClusterError, match=r"2 of 3 workers.*9002 UNLOADING pid -1.*model_log"):
        cluster.register("digits.mar", timeout=0.05)


def test_missing_archive_says_what_to_do(cluster):
    with pytest.raises(ClusterError, match=r"Model not found at: missing.mar.*model store") as info:
        cluster.register("missing.mar")
    assert info.value.status == 404


def test_wrong_token_says_where_the_right_one_is(api):
    with (
        Cluster(f"http://127.0.0.1:{api.server_port}") as cluster,
        pytest.raises(ClusterError, match=r"key_file\.json") as info,
    ):
        cluster.list_models()
    assert info.value.status == 401


def test_unregister_is_idempotent(cluster):
    cluster.register("digits.mar")
    assert cluster.registered("digits")
    assert cluster.unregister("digits") is True
    assert cluster.unregister("digits") is False
    assert not cluster.registered("digits")


def test_scale_down_waits_until_the_others_are_gone(cluster):
    cluster.register("digits.mar")
    assert len(cluster.scale("digits", 1).workers) == 1


def test_names_are_quoted(api, cluster):
    cluster.registered("a/b")
    assert api.state["calls"][-1][1] == "/models/a%2Fb"


@pytest.mark.parametrize(
    ("pid", "status", "ready"), [(-1, "READY", False), (7, "READY", True), (7, "UNLOADING", False)]
)
def test_a_worker_without_a_pid_is_not_ready(pid, status, ready):
    assert Worker(id="9000", pid=pid, status=status).ready is ready
