"""The commands of a deployment in order, on a real TorchServe with the plugin."""

import json
from pathlib import Path

import httpx
import pytest
import torch
from typer.testing import CliRunner

from approxifer_torchserve.cli.main import app
from approxifer_torchserve.serving.server.launcher import TorchServe

DATA = Path(__file__).parent / "data"


@pytest.mark.server
def test_archive_serve_deploy_status_undeploy(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(DATA)
    monkeypatch.setenv("COLUMNS", "250")
    from tiny_model import Tiny

    model = Tiny().eval()
    torch.save(model.state_dict(), tmp_path / "tiny.pt")
    (tmp_path / "sample.json").write_text('{"data": [0, 1, 2, 3]}')

    def run(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    made = run(
        "archive", "--model-name", "tiny", "--model-file", DATA / "tiny_model.py", "--handler",
        DATA / "tiny_handler.py", "--serialized-file", tmp_path / "tiny.pt", "--queries", 1,
        "--stragglers", 1, "--sample", tmp_path / "sample.json", "--output",
        tmp_path / "made" / "tiny.mar", "--json",
    )  # fmt: skip
    assert made["sample"]["codable"]

    with TorchServe(tmp_path / "store") as server:
        monkeypatch.setenv("APPROXIFER_KEY_FILE", str(server.run_dir / "key_file.json"))
        where = ("--management", server.management)
        deploy = (
            "deploy", tmp_path / "made" / "tiny.mar", "--model-store", tmp_path / "store", *where,
            "--workers", 2, "--json",
        )  # fmt: skip
        first = run(*deploy)
        assert [worker["status"] for worker in first["workers"]] == ["READY", "READY"]
        again = run(*deploy)
        assert [w["pid"] for w in again["workers"]] == [w["pid"] for w in first["workers"]]

        inference = server.token("inference")
        reply = httpx.post(
            f"{server.inference}/predictions/tiny",
            json={"data": [0, 1, 2, 3]},
            headers={"Authorization": f"Bearer {inference}"},
        )
        assert reply.headers["x-approxifer-outcome"] in ("exact", "hedged")
        with torch.inference_mode():
            expected = model(torch.tensor([[0.0, 1.0, 2.0, 3.0]]))[0]
        assert torch.allclose(torch.tensor(reply.json()), expected, atol=1e-6)

        status = run("status", "tiny", "--inference", server.inference, "--json")
        assert "tiny" in json.dumps(status)

        assert run("undeploy", "tiny", *where, "--json")["removed"] is True
        assert run("undeploy", "tiny", *where, "--json")["removed"] is False
