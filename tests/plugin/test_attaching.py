"""What the plugin looks at and leaves in a model's directory when it attaches."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import jpype
import pytest
from plans import plan_json


@pytest.fixture(scope="module")
def ts_package(jvm, tmp_path_factory):
    """Calls static and instance methods of the plugin's own classes, which are not public."""
    import ts

    fuzz = jpype.JClass("org.approxifer.torchserve.ts.PollBatchFuzz")
    home = Path(ts.__file__).resolve().parents[1]
    fuzz.configure(str(home), str(tmp_path_factory.mktemp("logs")))

    class Package:
        def call(self, owner, name, *given, on=None):
            kind = jpype.JClass("java.lang.Class").forName(f"org.approxifer.torchserve.ts.{owner}")
            (method,) = (m for m in kind.getDeclaredMethods() if m.getName() == name)
            method.setAccessible(True)
            try:
                return method.invoke(on, *given)
            except jpype.JException as error:
                raise error.getCause() from None

    return Package()


def model(folder, config="", name="m"):
    """A model as TorchServe makes it of an archive that is a directory."""
    folder.mkdir(exist_ok=True)
    (folder / "model-config.yaml").write_text(config or "{}")
    manifest = jpype.JClass("org.pytorch.serve.archive.model.Manifest")()
    manifest.getModel().setModelName(name)
    manifest.getModel().setModelVersion("1.0")
    manifest.getModel().setConfigFile("model-config.yaml")
    file = jpype.JClass("java.io.File")(str(folder))
    archive = jpype.JClass("org.pytorch.serve.archive.model.ModelArchive")
    made = archive(manifest, None, file, True)
    return jpype.JClass("org.pytorch.serve.wlm.Model")(made, 100)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("batchSize: 4\nmaxBatchDelay: 7", None),
        ("useJobTicket: true", "useJobTicket in its model-config.yaml"),
        ("sequenceBatching: true", "sequenceBatching in its model-config.yaml"),
        ("continuousBatching: true", "continuousBatching in its model-config.yaml"),
        ("asyncCommunication: true", "asyncCommunication in its model-config.yaml"),
        ("parallelType: pp\ntorchrun: {nproc-per-node: 2}", "parallelType or torchrun"),
        ("parallelType: custom\nparallelLevel: 2", "parallelType or torchrun"),
    ],
)
def test_what_cannot_be_attached_is_named(ts_package, tmp_path, config, said):
    found = ts_package.call("Attachment", "refusal", model(tmp_path / "m", config))
    assert (found is None) if said is None else (said in str(found))


def test_a_node_of_a_workflow_is_left_to_torchserve(ts_package, tmp_path):
    node = model(tmp_path / "m")
    node.setWorkflowModel(True)
    assert "node of a workflow" in str(ts_package.call("Attachment", "refusal", node))


def test_models_of_one_directory_share_key_and_placement(ts_package, tmp_path):
    folder = tmp_path / "m"
    link = tmp_path / "link"  # TorchServe makes a link to the directory for each model
    first, second = model(folder, name="a"), None
    link.symlink_to(folder)
    second = model(link, name="b")
    files = ts_package.call("ModelFiles", "open", first)
    key = folder / f"approxifer-{os.getpid()}.key"
    secret = key.read_text()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    again = ts_package.call("ModelFiles", "open", second)
    assert key.read_text() == secret
    assert again is files or again.equals(files)

    def place(owner, **gpus):
        placed = jpype.JClass("java.util.HashMap")()
        for worker, gpu in gpus.items():
            placed.put(worker.removeprefix("w"), jpype.JClass("java.lang.Integer")(gpu))
        ts_package.call("ModelFiles", "place", owner, placed, on=files)
        return json.loads((folder / f"approxifer-{os.getpid()}.placement.json").read_text())

    assert place(first, w9000=0) == {"9000": 0}
    assert place(second, w9001=1) == {"9000": 0, "9001": 1}
    ts_package.call("ModelFiles", "close", first, on=files)
    assert key.read_text() == secret
    assert place(second, w9001=0) == {"9001": 0}
    ts_package.call("ModelFiles", "close", second, on=files)
    assert not [path.name for path in folder.iterdir() if path.name.startswith("approxifer-")]
    anew = ts_package.call("ModelFiles", "open", first)
    assert key.read_text() != secret
    ts_package.call("ModelFiles", "close", first, on=anew)


def test_a_directory_that_cannot_be_written_is_told(ts_package, tmp_path):
    served = model(tmp_path / "m")
    # As root everything can be written; a folder in the key's place cannot be replaced by it.
    (tmp_path / "m" / f"approxifer-{os.getpid()}.key" / "x").mkdir(parents=True)
    with pytest.raises(jpype.JException) as error:
        ts_package.call("ModelFiles", "open", served)
    said = str(error.value)
    assert "the workers' key cannot be written into its directory" in said
    assert "serve a .mar" in said


def probe(folder, file="approxifer/probe.body"):
    own = folder / "approxifer"
    own.mkdir(parents=True, exist_ok=True)
    (own / "probe.body").write_bytes(b"body")
    (own / "probe.safetensors").write_bytes(b"prediction")
    described = {
        "headers": {"explain": "False"},
        "parameters": [{"name": "body", "content_type": "image/png", "file": file}],
        "prediction": "approxifer/probe.safetensors",
    }
    (own / "probe.json").write_text(json.dumps(described))
    return jpype.JClass("java.nio.file.Path").of(str(folder))


def test_a_probe_is_read(ts_package, tmp_path):
    assert ts_package.call("ProbeFile", "read", probe(tmp_path)) is not None
    (tmp_path / "approxifer" / "probe.json").unlink()
    none = ts_package.call(
        "ProbeFile", "read", jpype.JClass("java.nio.file.Path").of(str(tmp_path))
    )
    assert none is None


def test_a_users_file_of_that_name_is_none(ts_package, tmp_path):
    (tmp_path / "probe.json").write_text('{"probe": "mine"}')
    path = jpype.JClass("java.nio.file.Path").of(str(tmp_path))
    assert ts_package.call("ProbeFile", "read", path) is None


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "approxifer/link"])
def test_a_probe_names_files_of_its_archive_only(ts_package, tmp_path, name):
    (tmp_path / "secret").write_text("x")
    folder = tmp_path / "m"
    path = probe(folder, name)
    (folder / "approxifer" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(jpype.JException, match="outside the archive"):
        ts_package.call("ProbeFile", "read", path)


@pytest.mark.parametrize(
    ("shell", "ours"),
    [
        ('exec "$0" -c "$1" model_service_worker.py', True),
        ('"$0" -c "$1" model_service_worker.py & wait', True),  # as behind a launcher
        ('exec "$0" -c "$1" another.py', False),
    ],
)
def test_a_worker_is_known_behind_a_launcher_too(ts_package, shell, ours):
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    command = ["sh", "-c", shell, sys.executable, code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        pid = int(started.stdout.readline())
        try:
            process = jpype.JClass("java.lang.ProcessHandle").of(pid).get()
            found = ts_package.call("Restart", "isWorkerOfOurs", process)
            assert bool(found) is ours
        finally:
            os.kill(pid, 9)


def test_a_process_that_is_not_below_us_is_no_worker(ts_package):
    parent = jpype.JClass("java.lang.ProcessHandle").of(os.getppid()).get()
    assert not ts_package.call("Restart", "isBelow", parent, jpype.JLong(os.getpid()))


class Looking:
    """A model that the watcher looks at, with a clock of the test's own."""

    def __init__(self, core, ts_package, folder):
        self.core, self.ts, self.folder, self.now = core, ts_package, folder, 5_000_000_000
        self.model = model(folder)
        self.timers = core.Timers(core.Clock.SYSTEM)
        kind = jpype.JClass("java.lang.Class").forName("org.approxifer.torchserve.ts.Look")
        (make,) = kind.getDeclaredConstructors()
        make.setAccessible(True)
        now = jpype.java.lang.Long(self.now)
        self.kind, self.found = kind, make.newInstance(self.model, self.timers, now)

    def look(self, after_ms=0):
        """True if it is coded from now on."""
        self.now += int(after_ms * 1e6)
        now = jpype.java.lang.Long(self.now)
        return self.ts.call("Look", "look", now, on=self.found) is not None

    @property
    def refused(self):
        return self.ts.call("Look", "refused", on=self.found)

    @property
    def queue(self):
        return self.ts.call("Internals", "jobs", self.model)[self.model.DEFAULT_DATA_QUEUE]

    @property
    def served(self):
        return str(self.queue.getClass().getSimpleName())

    def write(self, text):
        (self.folder / "approxifer").mkdir(exist_ok=True)
        (self.folder / "approxifer" / "plan.json").write_text(text)

    def offer(self):
        """Puts a request into the model's queue; what it is answered comes into the list."""
        answers = jpype.JClass("java.util.ArrayList")()
        noted = jpype.JClass("org.approxifer.torchserve.ts.NotedJob")
        self.queue.offer(noted(self.model, answers))
        return answers

    @property
    def next(self):
        field = self.kind.getDeclaredField("next")
        field.setAccessible(True)
        return int(field.get(self.found))


@pytest.fixture
def looking(core, ts_package, tmp_path):
    return Looking(core, ts_package, tmp_path / "m")


def test_a_plan_that_comes_while_unpacking_is_found(looking):
    assert not looking.look()
    looking.write(plan_json())
    assert not looking.look(50), "not each time: most models have none"
    assert looking.look(60)
    assert (looking.served, looking.refused) == ("CodedQueue", None)
    assert not looking.look(60_000), "once is enough"


def test_a_model_without_a_plan_is_left_alone_after_a_minute(looking):
    queue = looking.queue
    for _ in range(10):
        assert not looking.look(10_000)
    assert looking.queue.equals(queue)
    looking.write(plan_json())
    assert not looking.look(100_000)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("{", "plan.json"),
        (plan_json(format=99), "format"),
        (plan_json(mode="nonsense"), "mode"),
        ("[]", "plan.json"),
    ],
)
def test_a_plan_that_cannot_be_read_refuses_its_requests(looking, plan, said):
    looking.write(plan)
    waiting = looking.offer()
    assert not looking.look()
    assert looking.served == "RefusingQueue"
    assert said in str(looking.refused)
    for answers in (waiting, looking.offer()):
        (answer,) = answers
        assert str(answer).startswith("503 m version 1.0 is not served: ")
        assert str(looking.refused) in str(answer)
    assert not looking.look(100)
    looking.write(plan_json())
    assert looking.look(10_000)
    assert (looking.served, looking.refused) == ("CodedQueue", None)


def test_a_refused_model_that_is_to_be_plain_is_so(looking):
    looking.write("{")
    assert not looking.look()
    looking.write(plan_json(enabled=False))
    assert not looking.look(10_000)
    assert (looking.served, looking.refused) == ("LinkedBlockingDeque", None)
    assert looking.queue.remainingCapacity() == 100


def test_a_refused_model_does_not_become_plain_because_its_plan_is_gone(looking):
    looking.write("{")
    assert not looking.look()
    (looking.folder / "approxifer" / "plan.json").unlink()
    for _ in range(10):
        assert not looking.look(10_000)
    assert looking.served == "RefusingQueue"


def test_a_key_that_can_be_written_later_is_tried_again(looking):
    looking.write(plan_json())
    key = looking.folder / f"approxifer-{os.getpid()}.key"
    (key / "x").mkdir(parents=True)
    queue = looking.queue
    assert not looking.look()
    assert looking.queue.equals(queue), "served plainly meanwhile, as the page says"
    (key / "x").rmdir()
    assert not looking.look(50)
    assert looking.look(60)
    assert looking.served == "CodedQueue"


def test_looks_become_rarer(looking):
    looking.write("{")
    read = 0
    for _ in range(1000):
        before = looking.next
        looking.look(20)
        read += looking.next != before
    assert 6 <= read <= 10, "within 20 s at 0, .1, .3, .7, 1.5, 3.1, 6.3, 12.7"
