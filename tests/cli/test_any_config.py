"""Whatever stands in a model-config.yaml, archiving says what is wrong and shows no traceback."""

import string
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from approxifer_torchserve.cli.main import app
from approxifer_torchserve.serving.config import ApproxiferConfig, PolicyConfig

HANDLER = "from ts.torch_handler.base_handler import BaseHandler\nclass H(BaseHandler): ...\n"
KEYS = [
    *("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout", "deviceType"),
    *("parallelType", "torchrun", "useJobTicket", "sequenceBatching", "handler", "jobQueueSize"),
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 20),
    st.integers(),
    st.floats(),
    st.dates(),
    st.binary(max_size=5),
    st.text(max_size=8),
    st.sampled_from(["auto", "none", "hedge", "[/red]", "[bold", "\\[x]", "approxifer", "berrut"]),
)


def nested(keys):
    return st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(keys | SCALARS.filter(_hashable), inner)
        ),
        max_leaves=6,
    )


def _hashable(value):
    return isinstance(value, (str, int, float, type(None)))


WORDS = st.text(string.ascii_lowercase, max_size=6)
ANY = nested(WORDS)
CODE = st.dictionaries(
    st.sampled_from(["name", "queries", "stragglers", "byzantine", "systematic", "nodes"]) | WORDS,
    ANY | st.integers(0, 6),
    max_size=4,
)
POLICY = st.dictionaries(st.sampled_from([*PolicyConfig.model_fields]) | WORDS, ANY, max_size=3)
SECTION = st.dictionaries(
    st.sampled_from([*ApproxiferConfig.model_fields]), CODE | POLICY | ANY, max_size=3
)
HANDLERS = st.fixed_dictionaries({"approxifer": SECTION | ANY}) | ANY
CONFIG = st.dictionaries(st.sampled_from(KEYS) | WORDS, ANY | st.integers(0, 5), max_size=4)
FILES = st.one_of(
    st.builds(lambda config, h: {**config, "handler": h}, CONFIG, HANDLERS).map(yaml.safe_dump),
    CONFIG.map(yaml.safe_dump),
    ANY.map(yaml.safe_dump),
    st.text(max_size=40),
    st.text("{}[]:,-?&*!|>'\"#%@ \n\tab1.", max_size=30),
).map(lambda text: text.encode("utf-8", "surrogatepass"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("any")
    (path / "handler.py").write_text(HANDLER)
    return path


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(FILES | st.binary(max_size=30))
@example(b"a: &x {b: *x}")
@example(b"handler: &x {approxifer: *x}")
@example(b"handler: {approxifer: &x {code: *x}}")
@example(b"x: 2001-99-99")
@example(b"x: !!bool maybe")
@example(b"x: !!timestamp soon")
@example(b"x: !!python/object:os.system {}")
@example(b"? [a]\n: b")
@example(b"[" * 3000)
@example(b"\xef\xbb\xbfminWorkers: 2")
@example(b"handler: {approxifer: {policy: {late_after_ms: .inf, deadline_ms: .nan}}}")
@example(b"handler: {approxifer: {code: {queries: 1000000000}}}")
@example(b"handler: {approxifer: {code: {nodes: {a: [1]}}}}")
@example(b'handler: {approxifer: {code: {name: "[/red]"}}}')
@example(b"minWorkers: 2 workers")
@example(b'x: "\\ud800"')
def test_it_is_archived_or_refused_in_words(folder: Path, text: bytes):
    config = folder / "given.yaml"
    config.write_bytes(text)
    words = ["archive", "--model-name", "m", "--handler", folder / "handler.py"]
    words += ["--config-file", config, "--output", folder / "m.mar", "--force"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in (0, 1), done.output
    assert (done.exit_code == 0) is ("error:" not in done.stderr)
