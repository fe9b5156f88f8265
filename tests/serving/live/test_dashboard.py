"""The dashboard and the alerts ask for metrics and labels that the server's page has."""

import json
import re
from importlib.resources import files

import httpx
import promql_parser
import pytest
import yaml
from live_server import png

ARCHIVES = files("approxifer_torchserve.archives")


def dashboard():
    board = json.loads(ARCHIVES.joinpath("grafana-dashboard.json").read_text())
    found = [t["expr"] for panel in board["panels"] for t in panel.get("targets", [])]
    for variable in board["templating"]["list"]:
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
        found += [f"count by ({asked[2]}) ({asked[1]})"] if asked else []
    assert len(found) > 20
    return found


def alerts():
    groups = yaml.safe_load(ARCHIVES.joinpath("alerts.yaml").read_text())["groups"]
    found = [rule["expr"] for group in groups for rule in group["rules"]]
    assert len(found) >= 10
    return found


def nodes(node):
    """A PromQL expression and everything inside it."""
    yield node
    for name in (n for n in dir(node) if not n.startswith("_")):
        inner = getattr(node, name)
        for child in inner if isinstance(inner, list) else [inner]:
            if isinstance(child, promql_parser.Expr):
                yield from nodes(child)


def parsed(expression):
    return promql_parser.parse(expression.replace("$__rate_interval", "5m"))


@pytest.fixture(scope="module")
def page(live):
    """Metric names of a live server's page, each with its samples' labels and their values."""
    for number in range(4):
        live.post("tiny", png(number))
        live.post("classic", png(number))
        live.post("mending", png(number))
    live.post("tiny", b"no image")
    text = httpx.get(live.server.metrics + "/metrics", headers=live.http.headers).text
    names = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            names.setdefault(name, {})
            assert kind != "untyped", line
        elif match := re.match(r"(\w+)(?:\{(.*)\})? ", line):
            labels = names.setdefault(match[1], {})
            for label, value in re.findall(r'(\w+)="([^"]*)"', match[2] or ""):
                labels.setdefault(label, set()).add(value)
    return names


@pytest.mark.parametrize("source", [dashboard, alerts])
def test_all_metrics_and_labels_exist_on_a_live_page(page, source):
    used = set()
    for expression in source():
        for node in nodes(parsed(expression)):
            if isinstance(node, promql_parser.VectorSelector):
                used.add(node.name)
                assert node.name in page, f"{node.name} of {expression}"
                for matcher in node.matchers.matchers:
                    values = page[node.name].get(matcher.name)
                    assert values, f"{matcher} of {expression}"
                    if "$" not in matcher.value:
                        asked = set(matcher.value.split("|"))
                        assert asked <= values, f"{matcher} of {expression}: there is {values}"
            elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
                below = [n for n in nodes(node.expr) if isinstance(n, promql_parser.VectorSelector)]
                for label in node.modifier.labels:
                    assert all(label in page[n.name] for n in below), f"{label} of {expression}"
    assert len(used) > 5


def test_all_metrics_of_ours_are_on_the_dashboard(page):
    shown = {
        node.name
        for expression in dashboard()
        for node in nodes(parsed(expression))
        if isinstance(node, promql_parser.VectorSelector)
    }
    ours = {
        re.sub("_(bucket|sum|count|created)$", "", n) for n in page if n.startswith("approxifer")
    }
    assert ours == {
        re.sub("_(bucket|sum|count)$", "", n) for n in shown if n.startswith("approxifer")
    }


def test_our_metrics_file_names_what_torchserves_own_does(live):
    import ts

    ours = yaml.safe_load((live.server.run_dir / "metrics.yaml").read_text())
    own = yaml.safe_load(files(ts).joinpath("configs", "metrics.yaml").read_text())
    assert ours == own
