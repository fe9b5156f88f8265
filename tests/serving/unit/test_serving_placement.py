import json
import os
import shlex
import subprocess
import sys
import threading
import time

import pytest

from approxifer_torchserve.serving.worker.placement import placed_gpu, worker_id


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["w.py", "--sock-type", "unix", "--sock-name", "/tmp/axf/.ts.sock.9003"], "9003"),
        (["w.py", "--sock-type", "tcp", "--port", "9001", "--metrics-config", "x"], "9001"),
        (["pytest"], None),
    ],
)
def test_worker_id_is_the_port_in_the_command_line(arguments, found):
    assert worker_id(arguments) == found


def test_the_plugins_choice_is_read_and_absence_means_torchserves_own(tmp_path):
    assert placed_gpu(tmp_path, [7], "9000") is None
    (tmp_path / "approxifer-7.placement.json").write_text(json.dumps({"9000": 2}))
    assert placed_gpu(tmp_path, [7], "9000") == 2
    assert placed_gpu(tmp_path, [8], "9000") is None
    assert placed_gpu(tmp_path, [7], None) is None
    assert placed_gpu(tmp_path, [7], "9001", patience_s=0.1) is None


def test_a_worker_waits_for_a_placement_that_is_just_being_made(tmp_path):
    path = tmp_path / "approxifer-7.placement.json"
    path.write_text("{}")

    def place():
        time.sleep(0.15)
        path.write_text(json.dumps({"9000": 3}))

    thread = threading.Thread(target=place)
    thread.start()
    assert placed_gpu(tmp_path, [7], "9000", patience_s=60) == 3
    thread.join()


def test_a_broken_file_is_ignored(tmp_path):
    (tmp_path / "approxifer-7.placement.json").write_text("{")
    assert placed_gpu(tmp_path, [7], "9000") is None


def test_a_launcher_may_stand_between_the_worker_and_the_jvm(tmp_path):
    (tmp_path / "approxifer-7.placement.json").write_text(json.dumps({"9000": 2}))
    assert placed_gpu(tmp_path, [9, 7, 1], "9000") == 2
    code = (
        "import os; from approxifer_torchserve.serving.worker.placement import ancestors; "
        "print(*ancestors())"
    )
    shell = ["sh", "-c", f'{shlex.quote(sys.executable)} -c "{code}"; exit 0']
    said = subprocess.run(shell, capture_output=True, text=True, check=True)
    above = [int(pid) for pid in said.stdout.split()]
    assert os.getpid() == above[1]
    assert above[2] == os.getppid()
