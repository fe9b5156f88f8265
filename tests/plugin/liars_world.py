"""A world of workers that answer, lie, stall, die and leave at random, and know what is right."""

import random

from router_bench import frame

NAMES = ("in_flight", "waiting", "outstanding_jobs", "open_groups", "unscreened_groups")


class World:
    """Plays clients and workers against a router; `check` says what must hold at the end.

    A prediction is right if it is `<what was asked>#<noise>`; devices differ in the noise, which a
    comparison tolerates. Workers screen and locate without fault: what is tested is what the
    router makes of that.
    """

    def __init__(self, bench, seed, liars=1, workers=10, byzantine=1):
        self.b, self.random = bench, random.Random(seed)
        self.names = [f"w{i}" for i in range(workers)]
        self.liars = set(self.random.sample(self.names, liars))
        self.byzantine = byzantine
        self.clients, self.busy, self.frozen = {}, {}, {}
        bench.live(*self.names)
        bench.watch_restarts()

    # ---------------------------------------------------------------- events

    def run(self, queries):
        while len(self.clients) < queries:
            self.step()
        self.finish()

    def step(self):
        luck = self.random.random()
        if luck < 0.12:
            for _ in range(self.random.choice([1, 1, 2, 3, 6])):
                self.offer()
        elif luck < 0.55:
            self.poll(self.random.choice(self.names))
        elif luck < 0.92:
            if self.busy:
                self.work(self.random.choice(list(self.busy)))
        elif luck < 0.995:
            self.advance(self.random.choice([1, 1, 2, 5, 20]))
        elif luck < 0.998:
            client = self.random.choice(list(self.clients.values()) or [None])
            if client is not None:
                client.hung_up = True
        else:
            self.advance(130)

    def offer(self):
        client = self.b.offer(exact_only=self.random.random() < 0.05)
        self.clients[str(client.proxy.request().getRequestId())] = client

    def advance(self, ms):
        self.b.now += int(ms * 1e6)
        self.b.timers.runDue()
        self.b.guard()

    def poll(self, worker):
        if worker in self.busy or worker in self.frozen:
            return
        job = self.b.poll(worker)
        if job is not None:
            self.busy[worker] = [job]
            if self.random.random() < 0.3 and (more := self.b.more(worker)) is not None:
                self.busy[worker].append(more)

    def work(self, worker):
        luck = self.random.random()
        jobs = self.busy.pop(worker)
        if luck < 0.01:
            self.frozen[worker] = jobs
        elif luck < 0.02:
            for job in jobs:
                self.b.die(job)
        elif luck < 0.03:
            for job in jobs:
                self.b.router.returned(job)
        elif luck < 0.04:
            for job in jobs:
                self.b.raw_reply(job, b"garbage")
        else:
            for job in jobs:
                self.answer(job, worker)
        if len(self.frozen) > 1 or (self.frozen and self.random.random() < 0.01):
            thawed = self.random.choice(list(self.frozen))
            for job in self.frozen.pop(thawed):
                self.answer(job, thawed)

    def finish(self):
        """Nothing happens any more but what workers have been given."""
        for worker in list(self.frozen):
            for job in self.frozen.pop(worker):
                self.answer(job, worker)
        for _ in range(40):
            for _ in range(200):
                for worker in list(self.busy):
                    for job in self.busy.pop(worker):
                        self.answer(job, worker)
                for worker in self.names:
                    self.poll(worker)
                if not self.busy:
                    break
            self.advance(200)

    # --------------------------------------------------------------- answers

    def answer(self, job, worker):
        header, parameters = self.b.job(job)
        ids = header.get("requests", [])
        kind = header["kind"]
        if kind == "raw":
            request = str(job.payload().getRequestId())
            said = self.say(request, worker)
            self.b.answer(job, said, prediction=said)
        elif kind in ("parity", "coded"):
            ids = [*ids, ""] if kind == "parity" else ids
            said = self.say(f"{header['coded']}:{' '.join(ids)}", worker)
            self.b.reply(job, [("prediction", said)])
        elif kind == "compare":
            self.b.reply(job, agree=right(parameters["first"]) == right(parameters["second"]))
        elif kind == "screen":
            wrong = self.wrong(ids, header["available"], parameters)
            if self.byzantine:
                suspected = [i for i in wrong if i < header["size"]]
            else:
                suspected = list(range(header["size"])) if wrong else []
            self.b.reply(job, wrong=wrong, suspected=suspected)
        elif kind == "encode":
            self.b.reply(job, [(f"coded{i}", b"C") for i in range(7)])
        elif kind == "decode":
            self.decode(job, header, parameters)

    def say(self, asked, worker):
        lies = worker in self.liars and self.random.random() < 0.5
        noise = self.random.choice([0, 0, 0, 1])
        what = f"lie {self.random.randrange(3)}" if lies else asked
        return f"{what}#{noise}".encode()

    def wrong(self, ids, available, parameters):
        """The coded queries whose answers are not what they should be."""
        found = []
        for i in available:
            said = right(parameters[f"p{i}"])
            lies = said.startswith("lie")
            if not lies:
                mine = said == ids[i] if ":" not in said else said.startswith(f"{i}:")
                assert mine, f"{said} came as answer {i} of {ids}"
            found += [i] if lies else []
        return found

    def decode(self, job, header, parameters):
        wrong = [i for i in header["available"] if right(parameters[f"p{i}"]).startswith("lie")]
        located = wrong if str(self.b.plan_json["mode"]) == "coded" else []
        assert located or not wrong or not self.b.waits, "a lie was used to decode with"
        answers, sections = {}, []
        for member, request in zip(header["members"], header["requests"], strict=True):
            name = f"answer{member['index']}"
            answers[str(member["index"])] = {"section": name, "status": 200}
            sections.append((name, f"{request}#0".encode()))
        self.b.raw_reply(job, frame(sections=sections, answers=answers, wrong=located))

    # ------------------------------------------------------------------ ends

    def check(self):
        """Each client had one answer, none wrong; only liars were found out; nothing is left."""
        right_answers = 0
        for request, client in self.clients.items():
            assert len(client.replies) == 1 or (client.hung_up and not client.replies)
            for outcome, said in client.replies:
                if isinstance(outcome, str):
                    right_answers += right(said) == request
                    if self.b.waits:
                        assert right(said) == request, (said, client.verified)
                        assert client.verified != "false"
        state = self.b.router.report()
        left = {name: state[name] for name in NAMES if state[name]}
        assert left == {}
        confirmed = {w for w, a in state["workers"].items() if a["confirmed_wrong"]}
        assert confirmed <= self.liars
        return right_answers, confirmed, dict(state["counters"])


def right(prediction):
    return bytes(prediction).decode().split("#")[0]
