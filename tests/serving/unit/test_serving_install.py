"""What docs/operations.md has one put into an image does what it says; no image is built here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "operations.md").read_text()


@pytest.fixture
def steps():
    """The RUN lines of the image that builds on TorchServe's own, continued lines joined."""
    image = re.search(r"```dockerfile\n(FROM pytorch/torchserve:0\.12\.0.*?)```", PAGE, re.S)[1]
    return re.findall(r"^RUN (.*)$", image.replace("\\\n", " "), re.M)


def test_the_configuration_of_an_image_ends_up_with_the_plugin(steps, tmp_path):
    (step,) = (step for step in steps if "config.properties" in step)
    config = tmp_path / "config.properties"
    config.write_text("model_store=/home/model-server/model-store")  # theirs ends without a newline
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    subprocess.run(["sh", "-ec", step], cwd=tmp_path, env=environment, check=True)
    found = dict(line.split("=", 1) for line in config.read_text().splitlines())
    assert found["model_store"] == "/home/model-server/model-store"
    assert list(Path(found["plugins_path"]).glob("*.jar"))
    template = (ROOT / "archives" / "config.properties").read_text()
    ours = set(re.findall(r"^(\w+)=", template, re.M))
    assert set(found) - {"plugins_path"} <= ours
    assert "parallelism=32" in found["vmargs"]


def test_the_python_of_the_images_environment_is_new_enough(steps):
    wanted = re.search(r"python_requires = >=3\.(\d+)", (ROOT / "setup.cfg").read_text())[1]
    (version,) = re.findall(r"python3\.(\d+) -m venv /home/venv", " ".join(steps))
    assert int(version) >= int(wanted)
