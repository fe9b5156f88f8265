"""Archives from anybody: nothing in one leads out of it, and none is lost to a failed write."""

import errno
import io
import json
import tarfile
import zipfile

import pytest
from serving_harness import MODELS, archived

from approxifer_torchserve.serving.archive import packing
from approxifer_torchserve.serving.archive.packing import ArchiveError
from approxifer_torchserve.serving.config import ConfigError
from approxifer_torchserve.serving.plan import PLAN_FILE

HANDLER = (MODELS / "png_handler.py").read_bytes()
OUTSIDE = ["/etc/hostname", "../secret.yaml", "a/../../secret.yaml", "", ".", "a\0b"]


def mar(path, members=None, **model):
    """An archive as anybody may make it."""
    manifest = {
        "createdOn": "x",
        "runtime": "python",
        "model": {"modelName": "m", "modelVersion": "1", "handler": "h.py", **model},
    }
    files = {"h.py": HANDLER, "MAR-INF/MANIFEST.json": json.dumps(manifest), **(members or {})}
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


@pytest.fixture
def secret(tmp_path):
    """A file beside everything that is unpacked or written."""
    path = tmp_path / "secret.yaml"
    path.write_text("password: 1\n")
    yield path
    assert path.read_text() == "password: 1\n"


@pytest.mark.parametrize("key", ["configFile", "serializedFile", "modelFile", "requirementsFile"])
@pytest.mark.parametrize("name", [*OUTSIDE, 7, ["x"], {"a": 1}])
def test_a_manifest_names_files_of_its_archive_only(tmp_path, key, name):
    source = mar(tmp_path / "in.mar", **{key: name})
    with pytest.raises(ArchiveError, match=rf"{key} of its manifest.*inside the archive"):
        archived(tmp_path / "out", source)


@pytest.mark.parametrize("name", ["../m", "/tmp/m", "a/b", "..", "", "m\n", 7, None])
def test_a_models_name_is_no_path(tmp_path, secret, name):
    source = mar(tmp_path / "in.mar", modelName=name)
    with pytest.raises(ArchiveError, match=r"model ?[nN]ame"):
        archived(tmp_path / "out", source, force=True)
    good = mar(tmp_path / "good.mar")
    if isinstance(name, str):
        with pytest.raises(ArchiveError, match="model name"):
            archived(tmp_path / "out", good, model_name=name, force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good.mar", "in.mar", "secret.yaml"]


def test_a_link_or_null_for_a_handler_is_told(tmp_path):
    with pytest.raises(ArchiveError, match="handler: expected a name"):
        archived(tmp_path / "out", mar(tmp_path / "in.mar", handler=None))


def test_null_in_a_manifest_means_that_there_is_none(tmp_path):
    report = archived(tmp_path / "out", mar(tmp_path / "in.mar", serializedFile=None))
    assert report.mode == "systematic"


@pytest.mark.parametrize("member", ["../secret.yaml", "/secret.yaml", "a/../../secret.yaml"])
def test_members_of_an_archive_stay_inside(tmp_path, secret, member):
    source = mar(tmp_path / "in.mar", {member: "overwritten"})
    with pytest.raises(ArchiveError, match="its member"):
        archived(tmp_path / "out", source)
    source = tmp_path / "in.tar.gz"
    with tarfile.open(source, "w:gz") as packed:
        packed.addfile(tarfile.TarInfo(f"m/../../{member}"), io.BytesIO())
    with pytest.raises(ArchiveError, match="not safe to open"):
        archived(tmp_path / "out", source)


def coded(tmp_path, **changes):
    """A coded archive whose plan was changed by somebody."""
    report = archived(tmp_path / "made", mar(tmp_path / "in.mar"), approxifer={"enabled": True})
    files = {}
    with zipfile.ZipFile(report.path) as packed:
        for name in packed.namelist():
            files[name] = packed.read(name)
    plan = json.loads(files[PLAN_FILE])
    plan["worker"].update(changes)
    files[PLAN_FILE] = json.dumps(plan)
    source = tmp_path / "changed.mar"
    with zipfile.ZipFile(source, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return source


@pytest.mark.parametrize(
    "change",
    [
        {"unwrapped": {"configFile": "../secret.yaml"}},
        {"unwrapped": {"configFile": "/etc/hostname"}},
        {"weights": {"parity": "../secret.yaml"}},
        {"locator": "/etc/hostname"},
    ],
)
def test_a_plan_names_files_of_its_archive_only(tmp_path, secret, change):
    source = coded(tmp_path, **change)
    with pytest.raises(ArchiveError, match="inside the archive"):
        archived(tmp_path / "out", source, rewrap=True)


def test_a_coded_archives_manifest_deletes_nothing_outside(tmp_path, secret):
    changed = coded(tmp_path)
    with zipfile.ZipFile(changed) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    manifest = json.loads(files["MAR-INF/MANIFEST.json"])
    manifest["model"]["configFile"] = str(secret)
    files["MAR-INF/MANIFEST.json"] = json.dumps(manifest)
    with zipfile.ZipFile(changed, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    with pytest.raises(ArchiveError, match="configFile of its manifest"):
        archived(tmp_path / "out", changed, rewrap=True)
    assert secret.exists()


def unpacked(tmp_path):
    folder = tmp_path / "folder"
    with zipfile.ZipFile(mar(tmp_path / "in.mar")) as packed:
        packed.extractall(folder)
    return folder


def test_links_that_lead_out_of_a_folder_are_not_followed(tmp_path, secret):
    folder = unpacked(tmp_path)
    (folder / "weights.pt").symlink_to(secret)
    with pytest.raises(ArchiveError, match=r"weights\.pt is a link that leads out"):
        archived(tmp_path / "out", folder)
    (folder / "weights.pt").unlink()
    (folder / "sub").symlink_to(tmp_path)
    with pytest.raises(ArchiveError, match="sub is a link that leads out"):
        archived(tmp_path / "out", folder)


def test_links_inside_a_folder_are(tmp_path):
    folder = unpacked(tmp_path)
    (folder / "a.txt").write_text("x")
    (folder / "b.txt").symlink_to("a.txt")
    report = archived(tmp_path / "out", folder)
    with zipfile.ZipFile(report.path) as packed:
        assert packed.read("b.txt") == b"x"


def test_a_handler_that_imports_from_above_is_not_followed(tmp_path):
    (tmp_path / "above.py").write_text("send_intermediate_predict_response")
    text = b"from .. import above\nfrom .....above import x\n" + HANDLER
    archived(tmp_path / "out", mar(tmp_path / "in.mar", {"h.py": text}))


def broken(tmp_path, how):
    source = mar(tmp_path / "in.mar")
    blob = source.read_bytes()
    if how == "cut":
        source.write_bytes(blob[: len(blob) // 2])
    elif how == "flipped":
        at = blob.index(b"h.py") + 200
        source.write_bytes(blob[:at] + bytes(255 - b for b in blob[at : at + 50]) + blob[at + 50 :])
    elif how == "manifest":
        source = mar(tmp_path / "in.mar", {"MAR-INF/MANIFEST.json": "[" * 5000})
    return source


@pytest.mark.parametrize("how", ["cut", "flipped", "manifest"])
def test_a_broken_archive_is_told(tmp_path, how):
    with pytest.raises(ArchiveError, match=r"archive in\.mar"):
        archived(tmp_path / "out", broken(tmp_path, how))


# ------------------------------------------------------------------ replacing


@pytest.mark.parametrize("form", ["default", "tgz", "no-archive"])
def test_an_archive_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch, form):
    source, out = mar(tmp_path / "in.mar"), tmp_path / "out"
    first = archived(out, source, archive_format=form)

    def state():
        found = [first.path] if first.path.is_file() else sorted(first.path.rglob("*"))
        return {p.name: p.read_bytes() for p in found if p.is_file()}

    before = state()
    utils = packing._archiver()
    original = utils.archive

    def full(*args):
        original(*args)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(utils, "archive", full)
    with pytest.raises(OSError, match="No space"):
        archived(out, source, archive_format=form, force=True, settings={"batchSize": 3})
    assert state() == before
    assert [path.name for path in out.iterdir()] == [first.path.name]
    monkeypatch.undo()
    archived(out, source, archive_format=form, force=True, settings={"batchSize": 3})
    assert state() != before
    assert [path.name for path in out.iterdir()] == [first.path.name]


def test_a_folder_comes_back_if_its_successor_cannot_take_its_place(tmp_path, monkeypatch):
    target, made = tmp_path / "model", tmp_path / "beside" / "model"
    for folder in (target, made):
        folder.mkdir(parents=True)
        (folder / "name").write_text(folder.parent.name)
    rename = packing.os.rename

    def failing(old, new):
        if new == target and old == made:
            raise OSError(errno.EIO, "fault")
        rename(old, new)

    monkeypatch.setattr(packing.os, "rename", failing)
    with pytest.raises(OSError, match="fault"):
        packing.replace(made, target)
    assert (target / "name").read_text() == tmp_path.name


def test_a_given_configuration_replaces_the_one_that_is_named(tmp_path):
    given = tmp_path / "given.yaml"
    given.write_text("batchSize: 7\n")
    source = mar(tmp_path / "in.mar", {"mine.yaml": "batchSize: 2"}, configFile="mine.yaml")
    report = archived(tmp_path / "out", source, config_file=given)
    with zipfile.ZipFile(report.path) as packed:
        assert packed.read("mine.yaml") == given.read_bytes()
    other = mar(tmp_path / "other.mar", {"model-config.yaml": "mine"})
    with pytest.raises(ArchiveError, match=r"a model-config\.yaml already"):
        archived(tmp_path / "out2", other, config_file=given)


def test_a_configuration_that_is_no_yaml_is_told(tmp_path):
    for text in ("a: [", "x: 2001-99-99", "? {a: b}\n: c", "[1, 2]", "a: !!int x", "a: !!bool x"):
        source = mar(tmp_path / "in.mar", {"c.yaml": text}, configFile="c.yaml")
        with pytest.raises(ConfigError, match=r"c\.yaml"):
            archived(tmp_path / "out", source)
