"""A router on a bench: a clock we own, workers that are names, clients that note replies."""

import json
import struct

import jpype
from jpype import JImplements, JOverride
from plans import plan_json


def frame(*, sections=(), **header):
    """A worker's reply frame (docs/protocol.md); sections are (name, bytes)."""
    header["sections"] = [[name, len(blob)] for name, blob in sections]
    text = json.dumps(header).encode()
    return b"AXF1" + struct.pack(">I", len(text)) + text + b"".join(b for _, b in sections)


class Bench:
    """A router with a fake clock, workers that are names, and clients that note their answers."""

    def __init__(self, core, limit=100, proven=True, **plan):
        """Makes a router.

        Args:
            core: The Java package.
            limit: jobQueueSize.
            proven: Whether each worker has answered a request well before its first job here.
            plan: Changes to the plan, see `plan_json`.
        """
        self.core = core
        bench = self

        @JImplements(core.Clock)
        class FakeClock:
            @JOverride
            def nanos(self):
                return bench.now

            @JOverride
            def millis(self):
                return bench.now // 1_000_000

        self.now = 10_000_000_000
        self.clock = FakeClock()
        self.timers = core.Timers(self.clock)
        self.signer = core.Signer("k" * 64)
        self.plan = core.Plan.parse(plan_json(**plan))
        self.router = core.Router("m", self.plan, limit, self.signer, self.clock, self.timers)
        self.workers = []
        self.restarted = []
        self.proven = proven
        self.known = set()

    def watch_restarts(self):
        bench = self

        @JImplements("java.util.function.Consumer")
        class Restart:
            @JOverride
            def accept(self, worker):
                bench.restarted.append(str(worker))

        self.router.onRestart(Restart())

    def probe_with(self, prediction):
        parameters = jpype.java.util.ArrayList()
        headers = jpype.java.util.HashMap()
        known = jpype.JArray(jpype.JByte)(prediction)
        self.router.probeWith(self.core.KnownQuery(headers, parameters, known))

    def state(self, worker):
        return str(self.router.report()["workers"][worker]["state"])

    def advance(self, ms):
        """Moves the clock in steps, running what falls due."""
        end = self.now + int(ms * 1e6)
        while self.now < end:
            self.now = min(end, self.now + 1_000_000)
            self.timers.runDue()

    def live(self, *workers, registered=True):
        self.workers = list(workers)
        self.guard(registered)

    def guard(self, registered=True):
        ids = jpype.java.util.HashSet()
        for worker in self.workers:
            ids.add(worker)
        self.router.guard(ids, registered)

    def offer(self, body=b"body", headers=None, expires=2**62, **flags):
        client = FakeClient(self.core, body, headers or {}, expires, **flags)
        self.router.offer(client.proxy)
        return client

    def poll(self, worker):
        if self.proven and worker not in self.known:
            self.known.add(worker)
            self.trust.asked(worker)
            self.trust.answered(worker, 0, False)
        return self.router.poll(worker)

    @property
    def trust(self):
        """The router's own `policy.Trust`."""
        measures = self.router.getClass().getDeclaredField("measures")
        measures.setAccessible(True)
        return measures.get(self.router).trust()

    def more(self, worker):
        return self.router.more(worker)

    def answer(self, job, body=b"42", prediction=None, **header):
        sections = [] if "error" in header else [("answer", body)]
        if prediction is not None:
            sections.append(("prediction", prediction))
        self.reply(job, sections, **header)

    def reply(self, job, sections=(), **header):
        self.raw_reply(job, frame(sections=sections, **header))

    def raw_reply(
        self, job, body, status=200, content_type="text/plain", phrase=None, headers=None
    ):
        sent = None if headers is None else jpype.java.util.HashMap(headers)
        blob = jpype.JArray(jpype.JByte)(body)
        answer = self.core.Answer(blob, content_type, status, phrase, sent)
        self.router.answered(job, answer)

    def die(self, job):
        self.router.failed(job, 500, "Worker died.")

    @property
    def counters(self):
        return dict(self.router.report()["counters"])

    def job(self, assignment):
        """The verified job header of what a worker was sent, and its parameters."""
        payload = assignment.payload()
        value = str(payload.getHeaders()["x-approxifer-job"])
        _, _, text = value.split(" ", 2)
        assert value == str(self.signer.header(payload.getRequestId(), text))
        parameters = {str(p.getName()): bytes(p.getValue()) for p in payload.getParameters()}
        return json.loads(text), parameters


class FakeClient:
    """A client of the router that records each reply it gets."""

    def __init__(
        self, core, body, headers, expires,
        codable=True, framed=True, exact_only=False, deadline_ms=0,
    ):  # fmt: skip
        messages = jpype.JPackage("org").pytorch.serve.util.messages
        request = messages.RequestInput(f"request-{id(self)}")
        for key, value in headers.items():
            request.getHeaders().put(key, value)
        request.addParameter(
            messages.InputParameter("body", jpype.JArray(jpype.JByte)(body), "image/png")
        )
        self.replies = []
        self.verified = None
        self.retry_after = None
        self.hung_up = False
        self.refuses = False
        me = self

        @JImplements(core.Client)
        class Proxy:
            @JOverride
            def request(self):
                return request

            @JOverride
            def codable(self):
                return codable

            @JOverride
            def framed(self):
                return framed

            @JOverride
            def exactOnly(self):  # noqa: N802
                return exact_only

            @JOverride
            def deadlineNanos(self):  # noqa: N802
                return int(deadline_ms * 1e6)

            @JOverride
            def gone(self):
                return me.hung_up

            @JOverride
            def expiresAtMillis(self):  # noqa: N802
                return expires

            @JOverride
            def scheduled(self):
                pass

            @JOverride
            def answer(self, answer, outcome):
                if me.refuses:
                    raise jpype.java.lang.IllegalArgumentException("no")
                me.replies.append((str(outcome), bytes(answer.body())))
                me.verified = answer.headers().get("x-approxifer-verified")

            @JOverride
            def busy(self, message, seconds):
                me.retry_after = int(seconds)
                me.replies.append((503, str(message)))

            @JOverride
            def error(self, status, message):
                me.replies.append((int(status), str(message)))

        self.proxy = Proxy()

    @property
    def reply(self):
        """The one reply; fails when there is none or more than one."""
        assert len(self.replies) == 1, self.replies
        return self.replies[0]
