"""What an installation holds, and what building the plugin says when it cannot."""

import configparser
import importlib.util
import re
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.fixture
def backend():
    path = ROOT / "plugin" / "build_backend.py"
    spec = importlib.util.spec_from_file_location("build_backend_under_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_package_is_listed(setup):
    mapped = dict(
        line.split(" = ") for line in setup["options"]["package_dir"].strip().splitlines()
    )
    found = set()
    bases = {"approxifer_torchserve": ROOT / "approxifer_torchserve"}
    bases |= {name: ROOT / folder for name, folder in mapped.items()}
    for name, base in bases.items():
        for init in base.rglob("__init__.py"):
            found.add(".".join([name, *init.parent.relative_to(base).parts]))
    assert found == set(setup["options"]["packages"].split())


def test_the_product_needs_no_example():
    needed = re.compile(r"\bexamples(/|\.[a-z_]|[\"'])|import examples")
    folders = ("approxifer_torchserve", "handlers", "archives", "plugin/src/main")
    sources = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".java", ".j2", ".yaml", ".json", ".properties"}
    ]
    assert len(sources) > 100
    assert not [str(path) for path in sources if needed.search(path.read_text())]
    # What it would find.
    assert needed.search("from approxifer_torchserve.examples.x import y")
    assert needed.search('files("approxifer_torchserve.examples") / "x.py"')
    assert needed.search("handler: examples/x.py")


def test_extras_are_the_promised_ones(setup):
    assert {"serve", "lightning", "bench", "test"} <= set(setup["options.extras_require"])
    assert "torchserve==0.12.0" in setup["options.extras_require"]["serve"]


def test_torch_is_pinned_without_a_build_tag():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split(";")[0].split("==") for line in lines if not line.startswith("#"))
    assert pins["torchserve"] == "0.12.0"
    assert "+" not in pins["torch"]


def test_data_files_are_found_as_resources():
    from importlib.resources import files

    package = "approxifer_torchserve"
    assert files(f"{package}.archives").joinpath("log4j2.xml").is_file()
    assert files(f"{package}.archives").joinpath("config.properties").is_file()
    assert files(f"{package}.handlers").joinpath("approxifer_handler.py").is_file()
    assert files(f"{package}.bench.digits").joinpath("digits_handler.py").is_file()
    assert files(f"{package}.bench.harness").joinpath("report.html.j2").is_file()


def test_no_javac_says_what_to_install(backend, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(backend.PluginBuildError, match=r"JAVA_HOME.*'/nowhere'.*openjdk-17"):
        backend.find_javac()


def test_no_sources_is_an_error(backend, monkeypatch, tmp_path):
    monkeypatch.setattr(backend, "SOURCES", tmp_path)
    with pytest.raises(backend.PluginBuildError, match="no Java sources"):
        backend.build_plugin()


def test_refused_sources_show_javac_s_reason(backend, monkeypatch, tmp_path):
    (tmp_path / "Bad.java").write_text('class Bad { int x = "text"; }')
    monkeypatch.setattr(backend, "SOURCES", tmp_path)
    monkeypatch.setattr(backend, "JAR", tmp_path / "out.jar")
    with pytest.raises(backend.PluginBuildError, match="incompatible types"):
        backend.build_plugin()
    assert not (tmp_path / "out.jar").exists()


def test_jar_holds_the_endpoints_that_it_names_and_is_reproducible(backend, monkeypatch, tmp_path):
    monkeypatch.setattr(backend, "JAR", tmp_path / "plugin.jar")
    built = backend.build_plugin()
    with zipfile.ZipFile(built) as archive:
        endpoints = archive.read(backend.SERVICE).decode().split()
        assert endpoints
        for endpoint in endpoints:
            assert endpoint.replace(".", "/") + ".class" in archive.namelist()
    first = built.read_bytes()
    assert backend.up_to_date()
    built.unlink()
    assert backend.build_plugin().read_bytes() == first


def test_skipping_the_plugin_is_possible(backend, monkeypatch, capsys):
    monkeypatch.setenv(backend.SKIP, "1")
    monkeypatch.setattr(backend, "build_plugin", lambda: pytest.fail("built all the same"))
    backend.ensure_plugin()
    assert "without" in capsys.readouterr().err


def test_model_config_template_holds_the_defaults():
    from importlib.resources import files

    import yaml

    from approxifer_torchserve.serving.config import ApproxiferConfig, load_config

    template = files("approxifer_torchserve.archives").joinpath("model-config.yaml")
    told, default = load_config(yaml.safe_load(template.read_text())), ApproxiferConfig()
    assert told.policy == default.policy
    assert told.code.settings() == default.code.settings()
    keys = {"name", "queries", "stragglers", "byzantine"}
    assert told.code.model_dump(include=keys) == default.code.model_dump(include=keys)
    assert (told.enabled, told.envelope) == (default.enabled, default.envelope)
