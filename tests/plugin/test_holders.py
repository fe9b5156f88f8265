"""Weights of their own: which workers are chosen to hold them, and that only those are asked."""

import json
import threading
import time

import jpype
import pytest
from liars_world import World
from plans import plan_json

ONE = {"models": ["base", "base", "base", "parity"]}
TWO = {
    "queries": 2,
    "num_workers": 4,
    "quorum": 2,
    "models": ["base", "base", "parity0", "parity1"],
    "code": {"name": "parm", "stragglers": 2, "byzantine": 0},
}
POLICY = {"mode": "systematic", "reconstruct": True, "max_extra_load": 1}


def held(b):
    """The roles of each worker that holds any, as GET /coded shows them."""
    workers = b.router.report()["workers"]
    roles = {str(worker): [str(r) for r in entry["weights"]] for worker, entry in workers.items()}
    return {worker: mine for worker, mine in roles.items() if mine}


def scaled(b, *names):
    """These workers are there, and have asked for work."""
    b.live(*names)
    for name in names:
        assert b.poll(name) is None
    b.guard()


def serving(bench, workers=4, **options):
    """A bench with so many idle workers, and the names of those that hold weights, then others."""
    b = bench(**{**POLICY, "hedge": False, **ONE, **options})
    names = [f"900{i}" for i in range(workers)]
    scaled(b, *names)
    mine = list(held(b))
    return b, mine, [name for name in names if name not in mine]


def members(b, worker, count=3):
    """A full group, all of it in one worker's batch: (clients, its raw jobs)."""
    clients = [b.offer() for _ in range(count)]
    return clients, [b.poll(worker), *(b.more(worker) for _ in range(count - 1))]


def settle(b, jobs):
    for job in jobs:
        b.answer(job, prediction=b"P")


def test_a_parity_with_weights_of_its_own_goes_to_the_one_worker_that_holds_them(bench):
    b, (holder,), others = serving(bench)
    _, jobs = members(b, others[0])
    assert [job.kind() for job in jobs] == ["raw"] * 3
    assert b.poll(others[1]) is None
    assert b.poll(others[2]) is None
    assert b.poll(holder).kind() == "parity"


def test_a_code_whose_workers_are_alike_gives_parities_to_any(bench):
    b = bench(**POLICY)
    scaled(b, "9000", "9001")
    members(b, "9000")
    assert b.poll("9001").kind() == "parity"
    assert "weights" not in b.router.report()["workers"]["9000"]


def test_a_holder_with_a_member_of_the_group_computes_the_parity_once_that_is_answered(bench):
    b, (holder,), others = serving(bench)
    clients = [b.offer() for _ in range(3)]
    jobs = [b.poll(worker) for worker in (holder, *others[:2])]
    assert b.poll(others[2]) is None
    b.advance(50)
    b.answer(jobs[0], prediction=b"P")
    b.answer(jobs[1], prediction=b"P")
    parity = b.poll(holder)
    assert parity.kind() == "parity"
    b.reply(parity, [("prediction", b"P")])
    b.advance(51)
    decode = b.poll(holder)
    assert [member["index"] for member in b.job(decode)[0]["members"]] == [2]
    b.reply(decode, [("answer2", b"a2")], answers={"2": {"section": "answer2", "status": 200}})
    assert clients[2].reply == ("reconstructed", b"a2")


def test_a_holder_that_is_the_straggler_costs_the_parity_and_nobody_waits_for_it(bench):
    b, (holder,), others = serving(bench, hedge=True)
    clients = [b.offer() for _ in range(3)]
    jobs = [b.poll(worker) for worker in (holder, *others[:2])]
    settle(b, jobs[1:])
    b.advance(101)
    hedge = b.poll(others[2])
    assert hedge.kind() == "hedge"
    b.answer(hedge, b"again", prediction=b"P")
    assert clients[0].reply == ("hedged", b"again")
    b.answer(jobs[0], prediction=b"P")
    b.guard()
    assert b.poll(holder) is None
    state = b.router.report()
    assert state["dropped_jobs"] == 1
    assert not any(state[gauge] for gauge in ("in_flight", "waiting", "outstanding_jobs"))


LOSSES = ["death", "death at another job", "quarantine", "scaled away", "unloaded", "frozen"]


@pytest.mark.parametrize("how", LOSSES)
def test_another_worker_is_chosen_when_the_holder_is_lost(bench, how):
    b, (holder,), others = serving(bench, deadline_ms=10_000)
    _, jobs = members(b, others[0])
    parity = b.poll(holder)
    settle(b, jobs)
    if how == "death":
        b.die(parity)
    elif how == "unloaded":
        b.reply(parity, erasure="weights of parity: no such file", unloaded=True)
    else:
        b.reply(parity, [("prediction", b"P")])
    if how == "death at another job":
        b.offer()
        b.die(b.poll(holder))
        assert holder not in held(b)
        settle(b, [b.poll(others[1])])
        b.advance(6)  # its group, which goes without a parity, closes
    elif how == "quarantine":
        b.router.quarantine(holder)
        b.guard()
    elif how == "scaled away":
        b.live(*others)
    elif how == "frozen":
        b.offer()
        assert b.poll(holder).kind() == "raw"
        b.advance(110)
        b.guard()
        assert list(held(b)) == [holder], "one late job is no reason to load weights elsewhere"
        b.advance(3100)
        b.guard()
    (next_,) = held(b)
    assert next_ in others
    if how == "death":  # the process is back, but who knows what killed it
        assert b.poll(holder) is None
        b.guard()
        assert list(held(b)) == [next_]
    _, jobs = members(b, next(worker for worker in others if worker != next_))
    if how != "frozen":
        assert b.poll(holder) is None
    assert b.poll(next_).kind() == "parity"


def late(b, worker, times, pause=0):
    for _ in range(times):
        b.offer()
        job = b.poll(worker)
        b.advance(110)
        b.guard()
        b.answer(job, prediction=b"P")
        b.advance(pause)
        b.guard()


def test_a_worker_that_was_slow_once_keeps_what_it_holds(bench):
    b, (holder,), _ = serving(bench, deadline_ms=20_000)
    late(b, holder, 3)
    assert b.router.report()["workers"][holder]["late"] == 3
    b.advance(9000)
    b.guard()
    assert list(held(b)) == [holder], "nobody has tried it since"
    b.offer()
    b.answer(b.poll(holder), prediction=b"P")
    late(b, holder, 2)
    assert list(held(b)) == [holder]


def test_a_worker_that_stays_slow_does_not(bench):
    b, (holder,), _ = serving(bench, deadline_ms=20_000)
    late(b, holder, 3, pause=1000)
    assert list(held(b)) == [holder]
    late(b, holder, 2, pause=1000)
    assert len(held(b)) == 1
    assert holder not in held(b)


def test_where_all_are_slow_the_holder_stays(bench):
    b, (holder,), others = serving(bench, deadline_ms=20_000)
    for worker in (holder, *others):
        b.offer()
        b.poll(worker)
    b.advance(110)
    b.guard()
    b.advance(4000)
    b.guard()
    assert list(held(b)) == [holder]


def test_more_workers_mean_more_holders_and_fewer_fewer(bench):
    b, (first,), _ = serving(bench)
    names = [f"900{i}" for i in range(9)]
    scaled(b, *names)
    three = held(b)
    assert first in three
    assert len(three) == 3
    scaled(b, *names[:5])
    assert first in held(b)
    assert len(held(b)) == 2


def test_several_roles_lie_with_several_workers_once_there_are_some(bench):
    b, (only,), _ = serving(bench, workers=1, **TWO)
    assert held(b) == {only: ["parity0", "parity1"]}
    scaled(b, "9000", "9001", "9002")
    roles = held(b)
    assert sorted(map(str, roles.values())) == ["['parity0']", "['parity1']"]
    first, second = sorted(roles, key=lambda worker: roles[worker])
    (third,) = {"9000", "9001", "9002"} - {first, second}
    members(b, third, 2)
    assert b.job(b.poll(first))[0]["coded"] == 2
    assert b.job(b.poll(second))[0]["coded"] == 3


def test_weights_that_nobody_can_load_cost_parities_and_no_client(bench):
    b, _, _ = serving(bench, deadline_ms=100_000)
    names = [f"900{i}" for i in range(4)]
    for _ in range(4):
        (holder,) = held(b)
        _, jobs = members(b, next(name for name in names if name != holder))
        b.reply(b.poll(holder), erasure="weights of parity: no memory", unloaded=True)
        settle(b, jobs)
    assert held(b) == {}
    clients, jobs = members(b, "9000")
    assert [b.poll(name) for name in names[1:]] == [None] * 3
    settle(b, jobs)
    assert [client.reply[0] for client in clients] == ["exact"] * 3
    b.advance(31_000)
    b.guard()
    assert len(held(b)) == 1, "they are tried again"


def test_a_worker_that_has_not_asked_for_work_yet_is_not_chosen(bench):
    b = bench(**POLICY, **ONE)
    b.live("9000", "9001")
    assert held(b) == {}
    assert b.poll("9001") is None
    assert list(held(b)) == ["9001"]


@pytest.mark.parametrize(
    "models", [["base"] * 3, ["base", "parity", "base", "base"], ["base"] * 5, "parity"]
)
def test_a_plan_whose_queries_would_be_answered_by_other_weights_is_refused(bench, models):
    with pytest.raises(Exception, match=r"models|plan\.json"):
        bench(**POLICY, models=models)


class Waiting:
    """A worker that waits for work in a thread of its own, as TorchServe's do."""

    def __init__(self, b, name):
        self.b, self.name, self.got, self.thread = b, name, None, None
        self.python = threading.Thread(target=self._wait, daemon=True)
        idle = b.router.report()["idle_workers"]
        self.python.start()
        end = time.monotonic() + 10
        while b.router.report()["idle_workers"] == idle:
            assert time.monotonic() < end
            time.sleep(0.001)

    def _wait(self):
        self.thread = jpype.java.lang.Thread.currentThread()
        try:
            self.got = self.b.router.await_(self.name)
        except jpype.java.lang.InterruptedException:
            self.got = "interrupted"

    def job(self):
        self.python.join(10)
        assert not self.python.is_alive(), f"{self.name} still waits"
        return self.got

    def leave(self):
        self.thread.interrupt()
        assert self.job() == "interrupted"


def test_idle_holders_are_asked_last_so_that_the_parity_finds_one_free(bench):
    b, (holder,), others = serving(bench)
    waiting = {name: Waiting(b, name) for name in (*others, holder)}  # the holder was busy last
    for _ in range(3):
        b.offer()
    assert [waiting[name].job().kind() for name in others] == ["raw"] * 3
    assert waiting[holder].job().kind() == "parity"


def test_a_query_never_waits_for_a_worker_that_holds_nothing(bench):
    b, (holder,), _ = serving(bench)
    waiting = Waiting(b, holder)
    b.offer()
    assert waiting.job().kind() == "raw"


def test_a_holder_that_dies_while_it_waits_for_work_holds_nothing_any_more(bench):
    b, (holder,), _ = serving(bench)
    waiting = Waiting(b, holder)
    assert list(held(b)) == [holder]
    waiting.leave()
    assert len(held(b)) == 1
    assert holder not in held(b)


class OwnWorld(World):
    """Workers also come, go and are quarantined, and no two are alike."""

    def __init__(self, bench, seed):
        super().__init__(bench, seed, liars=0, workers=7, byzantine=0)
        self.all = list(self.names)
        self.slow = None
        self.parities = 0
        self.most = 0

    def step(self):
        super().step()
        luck = self.random.random()
        if luck < 0.003:
            self.scale(self.random.randint(1, len(self.all)))
        elif luck < 0.02:
            self.slow = self.random.choice(self.all)
        elif luck < 0.025:
            worker = self.random.choice(self.names)
            self.b.router.quarantine(worker)
            self.b.router.readmit(self.random.choice(self.names))

    def scale(self, count):
        stay = self.random.sample(self.all, count)
        for worker in sorted(set(self.names) - set(stay)):
            for job in [*self.busy.pop(worker, []), *self.frozen.pop(worker, [])]:
                self.b.router.returned(job)
        self.names = stay
        self.b.live(*stay)

    def poll(self, worker):
        if worker in self.busy or worker in self.frozen:
            return
        super().poll(worker)
        roles = held(self.b)
        self.most = max(self.most, sum(map(len, roles.values())))
        for job in self.busy.get(worker, []):
            if job.kind() == "parity":
                coded = self.b.job(job)[0]["coded"]
                role = self.b.plan_json["models"][coded]
                assert role in roles.get(worker, []), (role, worker, roles)
                self.parities += 1

    def offer(self):
        if self.random.random() < 0.5:  # so that workers have time for parities
            super().offer()

    def work(self, worker):
        if worker == self.slow and self.random.random() < 0.9:
            return
        for job in self.busy[worker]:
            if job.kind() == "parity" and self.random.random() < 0.02:
                self.busy.pop(worker)
                self.b.reply(job, erasure="weights: no memory", unloaded=True)
                return
        super().work(worker)

    def finish(self):
        self.scale(len(self.all))
        for worker in self.all:
            self.b.router.readmit(worker)
        super().finish()


@pytest.mark.parametrize(("seed", "hedge"), [(1, True), (2, False), (3, False)])
def test_no_client_hangs_and_no_stranger_computes_a_parity_whatever_happens(bench, seed, hedge):
    plan = {**POLICY, **TWO, "hedge": hedge, "late_after_ms": 20, "deadline_ms": 5000}
    b = bench(**plan, limit=10_000)
    b.plan_json = json.loads(plan_json(**plan))
    b.waits = True
    world = OwnWorld(b, seed)
    world.run(700)
    right_answers, _, counters = world.check()
    assert right_answers > 0.9 * 700, counters
    assert counters["reconstructed"] > 0 or hedge, "hedges are often first"
    assert world.parities > 20
    assert world.most <= 2 * 2, "two roles, at most two workers each of seven"
