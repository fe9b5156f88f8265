"""Archives of every form are served coded, a directory under two names too; and what is not."""

import json
import zipfile

import httpx
import pytest
from live_server import png, same, until

from approxifer_torchserve.serving.archive.wrap import Existing, Options, wrap_archive
from approxifer_torchserve.serving.server.cluster import ClusterError

CODE = {"name": "approxifer", "queries": 1, "stragglers": 1}


@pytest.fixture
def wrap(live, store):
    """Archives the model in a form, with settings of its own, and registers it."""
    names = []

    def register(form="default", *, name=None, url=None, workers=1, settings=None):
        model_name = name or f"form-{form}"
        if url is None:
            url = wrap_archive(
                Existing(path=store / "plain.mar", model_name=model_name),
                Options(approxifer={"code": CODE}, settings=settings or {}),
                export_path=store,
                archive_format=form,
                force=True,
            ).path.name
        live.cluster.register(url, name=model_name, workers=workers)
        names.append(model_name)
        return model_name, url

    yield register
    for name in names:
        live.cluster.unregister(name)


def answered(live, model, number):
    reply = live.post(model, png(number))
    assert reply.status_code == 200, reply.text
    assert same(reply.json(), number)
    return reply.headers.get("x-approxifer-outcome")


@pytest.mark.parametrize("form", ["tgz", "no-archive"])
def test_other_forms_are_served_coded(live, wrap, form):
    model, _ = wrap(form)
    assert [answered(live, model, n) for n in range(3)] == ["exact"] * 3
    (described,) = live.cluster.describe(model)
    # Nothing was asked for: TorchServe's own, and as many workers as initial_workers says.
    assert (described.batch_size, described.max_batch_delay) == (1, 100)
    assert (described.min_workers, described.max_workers) == (1, 1)


def test_the_management_api_says_what_the_archive_says(live, wrap):
    settings = {"batchSize": 3, "maxBatchDelay": 7, "responseTimeout": 44}
    model, _ = wrap(name="own", settings=settings, workers=2)
    assert answered(live, model, 1) == "exact"
    (found,) = live.cluster.describe(model)
    assert (found.batch_size, found.max_batch_delay, found.response_timeout) == (3, 7, 44)
    assert found.ready == 2


def test_two_models_of_one_directory_live_and_leave_by_themselves(live, wrap):
    first, url = wrap("no-archive")
    second, _ = wrap(name="again", url=url)
    for model in (first, second):
        assert answered(live, model, 2) == "exact"
    live.cluster.unregister(first)
    live.cluster.scale(second, 2)
    assert [answered(live, second, n) for n in range(8)] == ["exact"] * 8
    assert live.state(second)["live_workers"] == 2


def test_a_directory_with_a_damaged_plan_is_refused_until_it_is_repaired(live, wrap, store):
    _, url = wrap("no-archive", name="damaged")
    live.cluster.unregister("damaged")
    plan = store / url / "approxifer" / "plan.json"
    right = plan.read_text()
    plan.write_text("{")
    wrap(name="damaged", url=url, workers=0)
    until(lambda: live.http.get("/coded/damaged").json().get("state") == "refused")
    told = live.http.get("/coded/damaged")
    assert (told.status_code, told.json()["ready"]) == (503, False)
    told = told.json()
    assert told["reason"] in live.http.get("/ping").json()["models"]["damaged"]
    # Without a worker TorchServe itself says so; this one cannot load.
    with pytest.raises(ClusterError, match="were ready"):
        live.cluster.scale("damaged", 1, timeout=1)
    reply = live.post("damaged", png(1))
    assert reply.status_code == 503
    assert reply.json()["message"] == f"damaged version 1.0 is not served: {told['reason']}"
    assert live.log("damaged version 1.0 is not served")
    plan.write_text(right)
    until(lambda: live.http.get("/coded/damaged").status_code == 200)
    assert answered(live, "damaged", 3) == "exact"
    assert live.http.get("/coded/damaged").json()["state"] == "ready"


SPEC = """models:
    min-workers: 1
    max-workers: 1
    batch-size: 1
    max-batch-delay: 50
    retry-attempts: 1
    timeout-ms: 20000
    first:
      url: {first}
    second:
      url: {second}
dag:
  first: [second]
"""


def test_an_error_of_a_workflows_node_is_the_workflows(live, wrap, store):
    _, url = wrap(name="node")
    manifest = {
        "createdOn": "01/01/2025 00:00:00",
        "archiverVersion": "0.2.15",
        "workflow": {"workflowName": "flow", "specFile": "spec.yaml", "handler": "functions.py"},
    }
    with zipfile.ZipFile(store / "flow.war", "w") as packed:
        packed.writestr("spec.yaml", SPEC.format(first=url, second=url))
        packed.writestr("functions.py", "")
        packed.writestr("WAR-INF/MANIFEST.json", json.dumps(manifest))
    with httpx.Client(base_url=live.server.management, timeout=180) as management:
        token = {"Authorization": f"Bearer {live.server.token()}"}
        made = management.post("/workflows", params={"url": "flow.war"}, headers=token)
        assert made.status_code == 200, made.text
        try:
            reply = live.http.post("/wfpredict/flow", content=b"no picture")
            assert reply.status_code >= 500, reply.text
            assert live.log("it is a node of a workflow")
        finally:
            management.delete("/workflows/flow", headers=token)
