"""The plan: what plugin and worker must know of an archive (docs/protocol.md).

It is decided once, when the archive is made (``archive.planning``), so that nothing has to be
agreed on when a model starts. The plugin's ``Plan.java`` has the same fields. A file that lacks one
or has another is refused: archive and package belong together.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from approxifer_torchserve.codes import Mode
from approxifer_torchserve.codes.base import BASE
from approxifer_torchserve.serving.config import (
    CodeConfig,
    ConfigError,
    QuarantineConfig,
    ToleranceConfig,
    problems,
)

FOLDER = "approxifer"
"""The folder of an archive that holds what wrapping adds, so that the user's names stay free."""
PLAN_FILE = f"{FOLDER}/plan.json"
FORMAT = 1
PREDICTIONS = {"explain": "False", "url_path": ""}
"""How TorchServe marks a request to ``/predictions``, so that no KServe envelope is looked for."""

Check = Literal["none", "pair", "vote", "screen", "locate"]


def check_inside(name: str) -> str:
    """Returns the name of an archive's file if it cannot lead out of the archive.

    Raises:
        ValueError: It is empty, absolute, climbs up, or is no file name at all.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ValueError("expected the name of a file inside the archive")
    return name


Inside = Annotated[str, AfterValidator(check_inside)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlanPolicy(_Section):
    """The part of the policy that plugin and worker follow; see ``config.PolicyConfig``.

    Attributes:
        late_after_ms: Milliseconds until a worker is late, or ``"auto"``.
        hedge: Whether a late query is sent to another worker.
        reconstruct: Whether a decoded answer may be given to a client.
        reconstruct_reason: Why, or why not; for a reader.
        group_delay_ms: Milliseconds that a group waits for more queries.
        deadline_ms: Milliseconds until a client is answered with what there is; ``"none"`` for
            never, ``"auto"`` for many times the model's own time.
        prefer_exact_ms: Milliseconds that a decoded answer waits for an exact one.
        max_extra_load: Extra worker time allowed, as a fraction of the clients' own.
        idempotent: Whether the handler may run more than once for a request.
        verify: The check that the user asked for; what is done is ``Plan.check``.
        verify_wait: Whether clients wait for the check of their answers.
        on_wrong: What is done for the members that a screen doubts.
        probe_every_s: Seconds between two probes of a worker; 0 means none.
        quarantine: When a worker is kept from clients.
    """

    late_after_ms: Literal["auto"] | float
    hedge: bool
    reconstruct: bool
    reconstruct_reason: str
    group_delay_ms: float
    deadline_ms: Literal["none", "auto"] | float
    prefer_exact_ms: float
    max_extra_load: float
    idempotent: bool
    verify: Literal["none", "pair", "parity"]
    verify_wait: bool
    on_wrong: Literal["reexecute", "reconstruct"]
    probe_every_s: float
    quarantine: QuarantineConfig


class Unwrapped(_Section):
    """What it takes to undo the wrapping.

    Attributes:
        configFile: The manifest's ``configFile`` before it; None if it named none.
    """

    configFile: Inside | None = None  # noqa: N815 (the manifest's own word)


class WarmUp(_Section):
    """The request that a worker's process runs before it is up.

    Attributes:
        file: The archive's file with its body.
        content_type: The body's content type.
    """

    file: Inside
    content_type: str


class PlanWorker(_Section):
    """The part for the worker only.

    Attributes:
        handler: The user's handler as the manifest named it.
        envelope: ``auto`` opens the bodies of requests by KServe's URLs; ``none``: only the
            server's ``service_envelope`` is opened, as by plain TorchServe.
        staged: Whether the handler's steps can be called one by one.
        workers: How many workers share the processors.
        tolerance: How far two predictions of one query may differ.
        locator: The archive's file with a fitted locator; None for the code's own.
        locator_fingerprint: Which one that is.
        weights: A file of the archive for each role but ``base``.
        warm_up: What a process runs before it is up, or None.
        unwrapped: What it takes to undo the wrapping.
    """

    handler: str
    envelope: Literal["auto", "none"]
    staged: bool
    workers: int = Field(ge=1)
    tolerance: ToleranceConfig
    locator: Inside | None
    locator_fingerprint: str | None
    weights: dict[str, Inside]
    warm_up: WarmUp | None
    unwrapped: Unwrapped


class Plan(_Section):
    """How one archive is served.

    Attributes:
        format: The layout of the file.
        package: The version of this package that wrote it.
        enabled: False leaves the model to TorchServe and to the user's handler.
        mode: How queries reach workers, as ``codes.Plan`` has it.
        code: The code with its options.
        queries: K, the number of queries that form a group.
        num_workers: N+1, the number of coded queries of a group.
        quorum: Any this many answers recover a group; None where no number does.
        copies: How many workers get each query at once.
        systematic: For each coded query, the query that it equals, or None for a parity.
        models: For each coded query, the role whose weights serve it.
        check: How answers are verified.
        agree: So many equal answers to one query settle it.
        screen_quorum: A late group is screened from so many coded queries; None without screens.
        policy: What is done when, and for whom.
        worker: What only the worker needs.
    """

    format: Literal[1]
    package: str
    enabled: bool
    mode: Mode
    code: CodeConfig
    queries: int = Field(ge=1)
    num_workers: int = Field(ge=1)
    quorum: int | None
    copies: int = Field(ge=1)
    systematic: tuple[int | None, ...]
    models: tuple[str, ...]
    check: Check
    agree: int
    screen_quorum: int | None
    policy: PlanPolicy
    worker: PlanWorker

    @model_validator(mode="after")
    def _lengths(self) -> Plan:
        if not len(self.systematic) == len(self.models) == self.num_workers:
            raise ValueError(
                f"expected num_workers = {self.num_workers} entries in systematic and models, got "
                f"{len(self.systematic)} and {len(self.models)}"
            )
        return self

    @property
    def grouped(self) -> bool:
        """Whether queries are coded in groups, so that workers encode and decode."""
        return self.mode in ("systematic", "coded")

    @property
    def locates(self) -> bool:
        """Whether a worker looks at the answers of a group, with a locator if there is one."""
        return self.check in ("screen", "locate")

    @property
    def roles(self) -> list[str]:
        """The roles with weights of their own, each once, in order of their names."""
        return sorted({*self.models} - {BASE})

    def with_worker(self, **changes: Any) -> Plan:
        """Returns the plan with other values in its ``worker`` part."""
        return self.model_copy(update={"worker": self.worker.model_copy(update=changes)})

    @classmethod
    def parse(cls, text: str | bytes) -> Plan:
        """Reads the text of a plan.

        Raises:
            ConfigError: It is no JSON, of another format, or a key is missing, unknown or wrong.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            said = [each for each in error.errors() if each["loc"] == ("format",)]
            if said:
                got = said[0]["input"] if said[0]["type"] != "missing" else None
                why = f"{PLAN_FILE}: expected format {FORMAT}, got {got!r}"
            else:
                why = problems(error, f"{PLAN_FILE}: ")
            raise ConfigError(f"{why}; archive the model again") from None

    @classmethod
    def read(cls, model_dir: Path) -> Plan:
        """Reads the plan of an unpacked archive; the files it names lie inside it.

        Raises:
            ConfigError: It is missing, or as for ``parse``.
        """
        try:
            text = (model_dir / PLAN_FILE).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{PLAN_FILE} cannot be read ({error}); archive the model again"
            ) from None
        return cls.parse(text)

    @classmethod
    def of_archive(cls, path: Path) -> Plan | None:
        """Reads the plan of a packed ``.mar``; None if it is no coded one.

        Raises:
            ConfigError: As for ``parse``.
        """
        try:
            with zipfile.ZipFile(path) as packed:
                text = packed.read(PLAN_FILE)
        except (OSError, KeyError, RuntimeError, zipfile.BadZipFile):
            return None
        return cls.parse(text)

    def write(self, folder: Path) -> None:
        """Writes the plan into an unpacked archive."""
        # An option of a code may be a date, which JSON has not.
        text = json.dumps(self.model_dump(), indent=1, default=str)
        (folder / FOLDER).mkdir(exist_ok=True)
        (folder / PLAN_FILE).write_text(text, encoding="utf-8")
