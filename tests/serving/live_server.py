"""The running server as tests see it, light load on it, and what its answers should be."""

import base64
import io
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import psutil
import torch
from PIL import Image

from approxifer_torchserve.serving.server.cluster import Cluster
from approxifer_torchserve.serving.server.grpc_client import GrpcPredictions
from approxifer_torchserve.serving.server.launcher import is_worker

MODEL = Path(__file__).parent / "model"


def net():
    """The model under test, in this process."""
    sys.path.insert(0, str(MODEL))
    try:
        from net import Net
    finally:
        sys.path.remove(str(MODEL))
    return Net()


def png(number):
    """An 8×8 image, another one for each number."""
    generator = torch.Generator().manual_seed(number)
    pixels = torch.randint(0, 256, (8, 8), generator=generator, dtype=torch.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels.numpy()).save(file, "PNG")
        return file.getvalue()


def expected(number):
    """What the model itself answers to `png(number)`, computed here."""
    image = Image.open(io.BytesIO(png(number)))
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(1, 1, 8, 8)
    with torch.no_grad():
        row = net()(pixels / 255)[0]
    return {"class": int(row.argmax()), "scores": [round(float(s), 4) for s in row]}


# When a job is late, in the archives of these tests.
LATE_AFTER_MS = 150

# More requests than the three workers of `tiny` can hold: each takes up to four in a batch.
CROWD = 18

# The model's own answer: sent again or not, which on a busy machine is a matter of milliseconds.
OWN = ("exact", "hedged")

# A worker that is kept from nobody; on a busy machine it may be slow, or new since a moment ago.
WELL = ("ok", "restarted", "slow", "suspected", "unproven")


def until(condition, seconds=90):
    """Waits until something holds and returns it, however busy the machine is."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)
    return found


def alive(pids):
    """Whether all of some processes run; TorchServe lists a dead one for a moment."""
    try:
        return all(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)
    except psutil.NoSuchProcess:
        return False


def same(answer, number):
    """Whether an answer is the model's own, up to the rounding that batch mates cause."""
    right = expected(number)
    close = max(abs(a - b) for a, b in zip(answer["scores"], right["scores"], strict=True))
    return answer["class"] == right["class"] and close <= 2e-4


class Live:
    """The running server as tests see it."""

    def __init__(self, server, faults):
        self.server = server
        self.faults_file = faults
        self.http = httpx.Client(base_url=server.inference, timeout=60)
        self.cluster = Cluster(server.management, server.token())
        self.grpc = GrpcPredictions(server.grpc, server.token("inference"))

    def post(self, model, body, path="/predictions/{}", **options):
        return self.http.post(path.format(model), content=body, **options)

    def state(self, model):
        """GET /coded/<model> of its first version."""
        return self.http.get(f"/coded/{model}").json()["models"][0]

    def drain(self, model, version):
        """Waits until no request of a version is in flight, as one does before removing it."""

        def idle():
            states = self.http.get(f"/coded/{model}").json()["models"]
            return sum(s["in_flight"] for s in states if s["version"] == version) == 0

        until(idle)

    def log(self, *words):
        """The plugin's log lines that hold any of some words."""
        lines = (self.server.log_dir / "ts_log.log").read_text(errors="replace").splitlines()
        return [line for line in lines if any(word in line for word in words)]

    def quiet(self, model, seconds=30):
        """Waits until nothing is in flight; fails if that does not come about."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state = self.state(model)
            gauges = [state[g] for g in ("in_flight", "outstanding_jobs", "waiting", "open_groups")]
            if not any(gauges):
                self._check_accounts(state)
                return state
            time.sleep(0.05)
        raise AssertionError(f"gauges did not return to zero: {state}")

    @staticmethod
    def _check_accounts(state):
        """With nothing in flight each request has one end, and no worker owes an answer."""
        counters = state["counters"]
        ends = ("exact", "hedged", "reconstructed", "failed", "client_gone")
        assert counters["requests"] == sum(counters[end] for end in ends), counters
        owing = {worker: entry["unanswered"] for worker, entry in state["workers"].items()}
        assert set(owing.values()) <= {0}, owing

    def pids(self, model):
        return [worker.pid for worker in self.cluster.describe(model)[0].workers]

    def workers(self, model):
        """What `GET /coded` says of each worker, by its id."""
        return self.state(model)["workers"]

    def ids(self, model):
        """The ids of a model's workers, as TorchServe has them."""
        return {worker.id for worker in self.cluster.describe(model)[0].workers}

    def id_of(self, model, pid):
        """The id of the worker that is a process."""
        return next(w.id for w in self.cluster.describe(model)[0].workers if w.pid == pid)

    def holds(self, model, *pids):
        """Waits until each of some workers has a job that it has not answered."""
        ids = [self.id_of(model, pid) for pid in pids]
        until(lambda: all(self.workers(model)[i]["unanswered"] > 0 for i in ids))

    def quarantined(self, model, worker):
        """Whether a worker is or was in quarantine: a short stay may be missed."""
        return bool(self.log(f"{model} version 1.0: worker {worker} is quarantined"))

    def unspent(self, model):
        """Registers a model anew if other tests, or a busy machine, have spent its hedges."""
        if self.state(model)["hedge_budget"]["fill"] < 0.5:
            self.cluster.unregister(model)
            self.cluster.register(f"{model}.mar", name=model)

    def recovered(self, model, workers, without=()):
        """Waits until a model has so many ready workers, all alive and none of those killed."""

        def well():
            described = self.cluster.describe(model)[0]
            pids = [worker.pid for worker in described.workers]
            return described.ready == workers and alive(pids) and not set(pids) & set(without)

        until(well)

    def kill(self, pid, what=signal.SIGKILL):
        """Signals a worker of this server, after making sure that it is one."""
        assert is_worker(psutil.Process(pid))
        os.kill(pid, what)

    def delay(self, seconds_by_pid):
        """Sets the delay fault; {} ends it."""
        self.fault({pid: {"delay_s": seconds} for pid, seconds in seconds_by_pid.items()})

    def fault(self, fault_by_pid):
        """Sets the faults of workers (`approxifer_torchserve.faults.Fault`); {} ends them."""
        faults = {str(pid): fault for pid, fault in fault_by_pid.items()}
        fresh = self.faults_file.with_suffix(".new")
        fresh.write_text(json.dumps(faults))
        fresh.replace(self.faults_file)


STRIDE = 1_000_000  # a client's requests are numbered from its own multiple of this


class Load:
    """Light load in the background: one request after the other from a few threads."""

    def __init__(self, live, model, clients=2, pause=0.01):
        self.live = live
        self.model = model
        self.pause = pause
        self.answers = []
        self.clients = clients
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(clients)]

    def _run(self, seed):
        number = seed * STRIDE
        with httpx.Client(
            base_url=self.live.server.inference, headers=self.live.http.headers, timeout=60
        ) as http:
            while not self.stopped.is_set():
                number += 1
                start = time.perf_counter()
                reply = http.post(f"/predictions/{self.model}", content=png(number))
                self.answers.append((number, reply, time.perf_counter() - start))
                time.sleep(self.pause)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        for thread in self.threads:
            thread.join(70)
            assert not thread.is_alive(), "a client hangs"

    def wait_for(self, answers):
        """Waits until so many answers have come, however busy the machine is."""
        until(lambda: len(self.answers) >= answers)

    def turn_over(self, requests=2):
        """Waits until each client has had so many more answers.

        After two of them none waits for a request that it sent before.
        """
        before = Counter(number // STRIDE for number, _, _ in self.answers)

        def moved():
            now = Counter(number // STRIDE for number, _, _ in list(self.answers))
            return all(now[c] - before[c] >= requests for c in range(self.clients))

        until(moved)

    def outcomes(self):
        """How the answers came about, in the order in which they came."""
        return [r.headers.get("x-approxifer-outcome") for _, r, _ in list(self.answers)]

    @property
    def statuses(self):
        return [reply.status_code for _, reply, _ in self.answers]

    def check_all_right(self):
        """Every answer is 200 and, if called exact or hedged, the model's own."""
        assert self.answers
        for number, reply, _ in self.answers:
            assert reply.status_code == 200, reply.text
            if reply.headers["x-approxifer-outcome"] != "reconstructed":
                assert same(reply.json(), number), reply.text


def v1(*numbers):
    """A KServe v1 body."""
    return {"instances": [{"data": base64.b64encode(png(n)).decode()} for n in numbers]}


def v2(number):
    """A KServe v2 body."""
    data = [base64.b64encode(png(number)).decode()]
    return {
        "id": "42",
        "inputs": [{"name": "image", "shape": [-1], "datatype": "BYTES", "data": data}],
    }
