"""What an operator sees: metrics, readiness."""

import re

import httpx
from live_server import OWN, png, until

from approxifer_torchserve.cli.status import fetch
from approxifer_torchserve.serving.server.tokens import TokenAuth


def scrape(live):
    """The metrics page as {name: {labels: value}}."""
    page = httpx.get(live.server.metrics + "/metrics", headers=live.http.headers)
    assert page.status_code == 200, page.text
    found = {}
    for line in page.text.splitlines():
        match = re.match(r"(approxifer_\w+)\{(.*)\} (\S+)$", line)
        if match:
            labels = frozenset(re.findall(r'(\w+)="([^"]*)"', match[2]))
            found.setdefault(match[1], {})[labels] = float(match[3])
    return found


EXACT_ONLY = {"x-approxifer-accept": "exact-only"}


def labels(**named):
    return frozenset({"model": "tiny", "version": "1.0", **named}.items())


def test_metrics_count_requests_by_outcome_and_time_them_in_seconds(live):
    before = scrape(live)
    for number in range(10):
        assert live.post("tiny", png(number)).status_code == 200
    live.post("tiny", b"no image")
    live.quiet("tiny")
    after = scrape(live)

    def grew(name, **named):
        return after[name].get(labels(**named), 0) - before.get(name, {}).get(labels(**named), 0)

    def own(name, **named):
        return sum(grew(name, outcome=outcome, **named) for outcome in OWN)

    assert own("approxifer_requests_total") == 10
    assert grew("approxifer_requests_total", outcome="failed") == 1
    assert grew("approxifer_jobs_total", kind="raw") == 11
    assert own("approxifer_request_seconds_count") == 10
    assert own("approxifer_request_seconds_bucket", le="10.0") == 10
    assert grew("approxifer_queue_seconds_count") == 11
    assert 0 < grew("approxifer_service_seconds_sum", kind="raw") < 11
    assert after["approxifer_in_flight"][labels()] == 0
    assert after["approxifer_live_workers"][labels()] == 3
    assert (
        "ts_inference_requests_total"
        in httpx.get(live.server.metrics + "/metrics", headers=live.http.headers).text
    )


LISTED = {
    "requests by outcome": ("requests_total", {"outcome": "reconstructed"}),
    "latency by outcome": ("request_seconds_bucket", {"outcome": "exact"}),
    "lateness": ("late_jobs_total", {}),
    "when a job is late": ("late_after_seconds", {}),
    "erasures per worker": ("worker_erasures_total", {"worker": None}),
    "hedges": ("hedges_total", {}),
    "parity jobs": ("jobs_total", {"kind": "parity"}),
    "cancelled jobs": ("dropped_jobs_total", {}),
    "queue depth": ("waiting", {}),
    "queue seconds": ("queue_seconds_bucket", {}),
    "encode seconds": ("service_seconds_bucket", {"kind": "encode"}),
    "decode seconds": ("service_seconds_bucket", {"kind": "decode"}),
    "service seconds": ("service_seconds_bucket", {"kind": "coded"}),
    "group fill": ("group_fill_bucket", {}),
    "extra-work ratio": ("extra_work_ratio", {}),
}


def test_every_metric_that_operators_were_promised_is_on_the_page(live):
    for number in range(4):
        assert live.post("classic", png(number)).status_code == 200
    assert live.post("classic", png(0), headers=EXACT_ONLY).status_code == 200
    page = scrape(live)
    for what, (name, wanted) in LISTED.items():
        named = [dict(found) for found in page[f"approxifer_{name}"]]
        values = [found for found in named if found["model"] == "classic"]
        for key, value in wanted.items():
            values = [found for found in values if key in found and value in (None, found[key])]
        assert values, what


def test_readiness_is_503_while_a_model_has_fewer_workers_than_its_code_needs(live):
    assert live.http.get("/coded/classic").status_code == 200
    live.cluster.scale("classic", 0)
    try:
        reply = until(lambda: (r := live.http.get("/coded/classic")).is_error and r)
        assert reply.status_code == 503
        assert reply.json()["models"][0]["ready"] is False
        auth = TokenAuth(key_file=live.server.key_file, kind="inference")
        assert fetch(live.server.inference, "classic", auth)["models"][0]["ready"] is False
        assert live.http.get("/ping").status_code == 503
        assert live.http.get("/coded/tiny").status_code == 200
    finally:
        live.cluster.scale("classic", 3)
    until(lambda: live.http.get("/coded/classic").status_code == 200)
    assert live.http.get("/ping").json() == {"status": "Healthy"}
