"""One handler twice in this process: under TorchServe's own Service, and wrapped."""

import functools
import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from cases import CODES, Group, Query, Spec
from serving_harness import BINARY, Reply, Worker, messages

from approxifer_torchserve.serving.archive.wrap import Options, Parts, wrap_archive

HANDLERS = Path(__file__).parent / "forms"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True)
class Outcome:
    """What one client gets: an answer, a failure (status and message), or nothing at all.

    Nothing: the worker ends, or sends what the frontend cannot read or HTTP cannot carry.
    """

    kind: str
    status: int = 0
    phrase: str = ""
    content_type: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    erasure: str | None = None

    @property
    def bad(self) -> bool:
        return self.kind != "answer" or self.status >= 400

    @property
    def seen(self) -> tuple[object, ...]:
        """What the client sees, as opposed to what only the plugin does."""
        return (self.kind, self.status, self.phrase, self.content_type, self.headers, self.body)


NOTHING = Outcome("nothing")


def failure(status: int, message: str) -> Outcome:
    return Outcome("failure", status, message)


class Archives:
    """Archives of all forms, made once; a handler reads its spec when it is initialized."""

    def __init__(self, folder: Path):
        self.folder = folder

    @functools.cache  # noqa: B019  (as long as the tests run)
    def wrapped(self, form: str, batch_size: int | None, code: str) -> Path:
        folder = self.folder / f"wrapped-{form}-{batch_size}-{code}"
        folder.mkdir()
        report = wrap_archive(
            Parts(
                model_name="model",
                handler=str(HANDLERS / f"{form}_form.py"),
                extra_files=[HANDLERS / "behaviour.py"],
            ),
            Options(
                settings={} if batch_size is None else {"batchSize": batch_size},
                approxifer=CODES[code] if form == "steps" else {},
            ),
            export_path=folder,
            archive_format="no-archive",
        )
        assert (report.mode == "uncoded") is (form != "steps")
        return report.path

    @functools.cache  # noqa: B019
    def plain(self, form: str) -> Path:
        folder = self.folder / f"plain-{form}"
        (folder / "MAR-INF").mkdir(parents=True)
        for name in (f"{form}_form.py", "behaviour.py"):
            shutil.copy(HANDLERS / name, folder)
        (folder / "model-config.yaml").write_text("minWorkers: 1\n")
        model = {"modelName": "model", "handler": f"{form}_form.py", "modelVersion": "1.0"}
        manifest = {"model": {**model, "configFile": "model-config.yaml"}}
        (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
        return folder


class Twin:
    """The handler under TorchServe's own Service."""

    def __init__(self, archives: Archives, spec: Spec):
        folder = archives.plain(spec.form)
        (folder / "spec.json").write_text(spec.json())
        self.worker = Worker(folder, f"{spec.form}_form.py")

    def start(self) -> None:
        """As a worker that has just started."""
        service = self.worker.service
        entry = service._entry_point
        owner = getattr(entry, "__self__", None)
        service.context.__dict__.pop("items", None)
        (owner.initialize if owner is not None else functools.partial(entry, None))(service.context)

    def raw(self, named: list[tuple[str, Query]]) -> object:
        """Returns the whole response, or the class of the error that ends the process."""
        built = [messages.request(i, q.parameters(), q.all_headers()) for i, q in named]
        try:
            return self.worker.send(*built)
        except Exception as error:
            return type(error)

    def ask(self, named: list[tuple[str, Query]]) -> list[Outcome]:
        response = self.raw(named)
        if isinstance(response, type):
            self.start()
            return [NOTHING] * len(named)
        code, text, replies = response
        if code != 200:
            return [failure(code, text)] * len(named)
        return [_answer(reply, reply.body) for reply in replies]


class Wrapped:
    """The same handler in a coded archive, spoken to as the plugin does."""

    def __init__(self, archives: Archives, spec: Spec):
        folder = archives.wrapped(spec.form, spec.batch_size, spec.code)
        (folder / "spec.json").write_text(spec.json())
        self.worker = Worker(folder, "approxifer_handler.py")
        manifest = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text())
        named = manifest["model"].get("configFile")
        config = {} if named is None else yaml.safe_load((folder / named).read_text())
        self.batch_size = config.get("batchSize", 1)
        self.num_workers = json.loads((folder / "approxifer/plan.json").read_text())["num_workers"]

    @property
    def user(self) -> object:
        return self.worker.service._entry_point.__self__.handler

    def raw(self, named: list[tuple[str, Query]]) -> object:
        """Without the plugin's frames: the whole response, or the class of the error."""
        return Twin.raw(self, named)

    def build(self, request_id: str, query: Query) -> dict:
        parameters, headers = query.parameters(), query.all_headers()
        if not query.framed:
            return messages.request(request_id, parameters, headers)
        job = {"kind": "raw", "want": query.want}
        return self.worker.signed(request_id, job, parameters, headers)

    def group(self, request_id: str, group: Group, blobs=(), **job) -> dict:
        members, parameters = [], {}
        for index, query in enumerate(group.members):
            own = query.parameters()
            listed = {"index": index, "headers": query.all_headers(), "parameters": list(own)}
            members.append(listed)
            parameters.update({f"m{index}/{name}": value for name, value in own.items()})
        full = {"kind": group.kind, "size": len(members), "members": members, **job}
        parameters.update({name: (BINARY, blob) for name, blob in dict(blobs).items()})
        return self.worker.signed(request_id, full, parameters)

    def ask(self, named: list[tuple[str, Query]], groups: tuple[Group, ...] = ()) -> list[Outcome]:
        """One batch of clients' requests and groups' jobs; what each client gets, in order."""
        jobs = [(f"g{n}", group) for n, group in enumerate(groups)]
        sent = [*((i, g) for i, g in jobs if g.first), *named]
        sent += [(i, g) for i, g in jobs if not g.first]
        try:
            code, text, replies = self.worker.send(*(self._built(i, what) for i, what in sent))
        except Exception:
            return [NOTHING] * len(named)
        if (code, text) != (200, "Prediction success"):
            return [NOTHING] * len(named)
        assert [reply.request_id for reply in replies] == [i for i, _ in sent]
        found = []
        for reply, (_, what) in zip(replies, sent, strict=True):
            if isinstance(what, Query):
                found.append(_read(reply, what))
            else:
                Reply.parse(reply.body)
        return found

    def _built(self, request_id: str, what: Query | Group) -> dict:
        if isinstance(what, Query):
            return self.build(request_id, what)
        return self.group(request_id, what, coded=self.num_workers - 1)


def _read(reply: messages.Part, query: Query) -> Outcome:
    if not query.framed:
        try:
            body = json.loads(reply.body)
        except ValueError:
            body = None
        if body == {"code": reply.status, "message": reply.phrase}:
            return failure(reply.status, reply.phrase)
        return _answer(reply, reply.body)
    header, sections = Reply.parse(reply.body)
    if "error" in header:
        # The plugin takes nothing else of such a reply.
        return failure(header["error"]["status"], header["error"]["message"])
    return _answer(reply, sections["answer"], header.get("erasure"))


def _answer(reply: messages.Part, body: bytes, erasure: str | None = None) -> Outcome:
    texts = [reply.phrase, reply.content_type, *reply.headers.values()]
    if any(c in text for text in texts for c in "\r\n\0"):
        return NOTHING
    if not all(_TOKEN.fullmatch(name) for name in reply.headers):
        return NOTHING
    given = (reply.status, reply.phrase, reply.content_type, reply.headers)
    return Outcome("answer", *given, body, erasure)
