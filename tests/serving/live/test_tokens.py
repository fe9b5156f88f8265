"""Tokens: every way in asks for one, a wrong one opens nothing, an expired one is read again."""

import json

import grpc
import httpx
import pytest
from live_server import expected, png
from typer.testing import CliRunner

from approxifer_torchserve.cli.main import app
from approxifer_torchserve.serving.server.cluster import Cluster, ClusterError
from approxifer_torchserve.serving.server.grpc_client import GrpcPredictions


def key(live, kind):
    return json.loads(live.server.key_file.read_text())[kind]["key"]


def renew(live, kind):
    """What an expired key's owner does: has TorchServe write a new one."""
    headers = {"Authorization": f"Bearer {key(live, 'API')}"}
    reply = httpx.get(f"{live.server.management}/token?type={kind}", headers=headers)
    assert reply.status_code == 200, reply.text


@pytest.fixture
def renewed(live):
    """Renews keys as asked; afterwards the shared clients have the ones that are valid."""
    yield lambda kind: renew(live, kind)
    live.http.headers["Authorization"] = f"Bearer {key(live, 'inference')}"
    live.cluster.close()
    live.cluster = Cluster(live.server.management, key(live, "management"))
    live.grpc.close()
    live.grpc = GrpcPredictions(live.server.grpc, key(live, "inference"))


@pytest.mark.parametrize("given", [None, "wrong", "management"])
def test_rest_without_the_right_token_is_refused(live, given):
    token = key(live, "management") if given == "management" else given
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    server = live.server
    for method, url in [
        ("POST", f"{server.inference}/predictions/tiny"),
        ("POST", f"{server.inference}/v1/models/tiny:predict"),
        ("POST", f"{server.inference}/v2/models/tiny/infer"),
        ("GET", f"{server.inference}/coded"),
        ("GET", f"{server.inference}/coded/tiny"),
    ]:
        reply = httpx.request(method, url, headers=headers, content=png(1) * (method == "POST"))
        assert reply.status_code == 400, (url, reply.text)
        assert "Token Authorization failed" in reply.json()["message"]


@pytest.mark.parametrize("given", [None, "wrong", "inference"])
def test_management_without_the_right_token_is_refused(live, given):
    token = key(live, "inference") if given == "inference" else given
    with Cluster(live.server.management, token) as cluster:
        for call in (
            cluster.list_models,
            lambda: cluster.describe("tiny"),
            lambda: cluster.scale("tiny", 1, wait=False),
            lambda: cluster.unregister("tiny"),
        ):
            with pytest.raises(ClusterError, match=r"key_file\.json") as error:
                call()
            assert error.value.status == 401
    assert live.post("tiny", png(1)).json() == expected(1)


@pytest.mark.parametrize("token", [None, "wrong"])
def test_grpc_without_the_right_token_is_refused(live, token):
    with GrpcPredictions(live.server.grpc, token) as wrong:
        with pytest.raises(grpc.RpcError) as error:
            wrong.predict("tiny", png(1))
        assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("token", [None, "inference"])
def test_grpc_management_without_the_right_token_is_refused(live, token):
    port = live.server.ports.grpc_management
    metadata = (("authorization", f"Bearer {key(live, token)}"),) if token else ()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            "/org.pytorch.serve.grpc.management.ManagementAPIsService/ListModels"
        )
        with pytest.raises(grpc.RpcError) as error:
            call(b"", metadata=metadata)
    assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_the_key_file_is_its_owners_alone(live):
    assert live.server.key_file.stat().st_mode & 0o077 == 0


def test_an_expired_management_key_is_read_again(live, renewed):
    with Cluster(live.server.management, key_file=live.server.key_file) as cluster:
        assert cluster.describe("tiny")
        renewed("management")
        assert cluster.describe("tiny")[0].ready == 3
        with pytest.raises(ClusterError) as error:
            live.cluster.describe("tiny")  # it was given a token, not a file
        assert error.value.status == 401
        assert "expired" in str(error.value)


def test_an_expired_inference_key_is_read_again_over_grpc(live, renewed):
    with GrpcPredictions(live.server.grpc, key_file=live.server.key_file) as client:
        before = client.predict("tiny", png(1))
        renewed("inference")
        assert client.predict("tiny", png(1)) == before
    with pytest.raises(grpc.RpcError) as error:
        live.grpc.predict("tiny", png(1))  # it was given a token, not a file
    assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_our_commands_take_the_keys_that_are_valid(live, renewed, monkeypatch):
    monkeypatch.setenv("APPROXIFER_KEY_FILE", str(live.server.key_file))

    def run(*words):
        return CliRunner().invoke(app, [str(word) for word in words])

    status = ("status", "tiny", "--inference", live.server.inference, "--json")
    deploy = ("deploy", "tiny.mar", "--management", live.server.management, "--json")
    for _ in range(2):
        result = run(*status)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["models"][0]["model"] == "tiny"
        assert run(*deploy).exit_code == 0
        renewed("inference")
        renewed("management")
    for words in (status, deploy):
        result = run(*words, "--token", "wrong")
        assert result.exit_code == 1
        assert "--key-file" in result.stderr


def test_watching_goes_on_when_the_key_is_renewed(live, renewed):
    from approxifer_torchserve.cli.status import fetch
    from approxifer_torchserve.serving.server.tokens import TokenAuth

    auth = TokenAuth(key_file=live.server.key_file, kind="inference")
    assert fetch(live.server.inference, "tiny", auth)["models"]
    renewed("inference")
    assert fetch(live.server.inference, "tiny", auth)["models"]
