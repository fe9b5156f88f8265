"""What a user may set under ``handler.approxifer`` in ``model-config.yaml``.

Unknown keys are refused and every error names the whole key, because this file is edited by hand
and read by a worker whose log is far away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from approxifer_torchserve.artifacts.report import code_key
from approxifer_torchserve.codes import Code, make_code, settled

SECTION = "handler.approxifer"
MAX_WORKERS = 1000
"""Codes of more are slips of the keyboard, and make matrices that fill the memory."""


class ConfigError(ValueError):
    """A setting is wrong; the message names the full key, what was expected and what came."""


class CodeConfig(BaseModel):
    """The code, as ``make_code`` takes it; keys beyond these go to ``make_code`` as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = "approxifer"
    queries: int = Field(8, ge=1, le=MAX_WORKERS)
    stragglers: int = Field(1, ge=0, le=MAX_WORKERS)
    byzantine: int = Field(0, ge=0, le=MAX_WORKERS)

    def make(self) -> Code:
        """Makes the code.

        Raises:
            TypeError: A setting is of another type.
            ValueError: A setting is unknown or out of range; the message names it.
        """
        return make_code(self.name, **self.settings())

    def key(self) -> str:
        """Returns the key under which an accuracy report holds the code."""
        return code_key(self.name, self.settings())

    def settings(self) -> dict[str, Any]:
        """Returns K, S, E and the options with those they imply, as ``make_code`` reads them.

        Raises:
            ValueError: The name of the code, or of an option, is unknown.
        """
        return {
            "queries": self.queries,
            "stragglers": self.stragglers,
            "byzantine": self.byzantine,
            **settled(self.name, self.model_extra or {}),
        }


class QuarantineConfig(BaseModel):
    """When a worker is kept from clients: ``wrong`` of its last ``of`` checked answers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    wrong: Annotated[int, Field(ge=1)] = 2
    of: Annotated[int, Field(ge=1, le=1000)] = 10
    clean: Annotated[int, Field(ge=1)] = 3


class ToleranceConfig(BaseModel):
    """How far two workers' predictions of one query may differ and still agree."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rtol: Annotated[float, Field(ge=0)] = 1e-3
    atol: Annotated[float, Field(ge=0)] = 1e-4


class PolicyConfig(BaseModel):
    """When a worker counts as late, and what is done then. Times are in milliseconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    late_after_ms: Literal["auto"] | float = "auto"
    on_late: tuple[Literal["hedge", "reconstruct"], ...] = ("hedge",)
    group_delay_ms: Annotated[float, Field(ge=0)] = 5
    deadline_ms: Literal["none", "auto"] | float = "none"
    prefer_exact_ms: Annotated[float, Field(ge=0)] = 0
    max_extra_load: Annotated[float, Field(ge=0, le=1)] = 0.25
    min_degraded_accuracy: Annotated[float, Field(ge=0, le=1)] = 0.8
    idempotent: bool = True
    verify: Literal["none", "pair", "parity"] = "none"
    verify_wait: bool = True
    on_wrong: Literal["reexecute", "reconstruct"] = "reexecute"
    probe_every_s: Annotated[float, Field(ge=0)] = 0
    quarantine: QuarantineConfig = QuarantineConfig()
    tolerance: ToleranceConfig = ToleranceConfig()

    @field_validator("late_after_ms", "deadline_ms", mode="before")
    @classmethod
    def _time(cls, value: Any, info: ValidationInfo) -> Any:
        words = ("auto",) if info.field_name == "late_after_ms" else ("none", "auto")
        if isinstance(value, str) and value in words:
            return value
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and 0 < value < math.inf:
            return float(value)
        expected = " or ".join(map(repr, words))
        raise ValueError(f"expected {expected} or a number of milliseconds above 0")


class ApproxiferConfig(BaseModel):
    """The whole section."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    enabled: bool = True
    code: CodeConfig = CodeConfig()
    policy: PolicyConfig = PolicyConfig()
    envelope: Literal["auto", "none"] = "none"
    warm_up: bool = True

    @property
    def warms_up(self) -> bool:
        """Whether workers run the archive's sample first; not where running has side effects."""
        return self.enabled and self.warm_up and self.policy.idempotent


def sections(model_yaml: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns ``handler`` and ``handler.approxifer`` of a parsed ``model-config.yaml``.

    Args:
        model_yaml: The whole file as a mapping, or None; what is absent is empty.

    Raises:
        ConfigError: One of them is no mapping.
    """
    found: list[dict[str, Any]] = [dict(model_yaml or {})]
    for key in SECTION.split("."):
        value = found[-1].get(key)
        if value is not None and not isinstance(value, Mapping):
            name = SECTION[: SECTION.index(key) + len(key)]
            raise ConfigError(f"{name}: expected a mapping, got {type(value).__name__}")
        found.append(dict(value or {}))
    return found[1], found[2]


def load_config(model_yaml: Mapping[str, Any] | None) -> ApproxiferConfig:
    """Reads the section out of a parsed ``model-config.yaml``.

    Args:
        model_yaml: The whole file as a mapping; None or an absent section means defaults.

    Raises:
        ConfigError: A value is wrong or a key is unknown.
    """
    try:
        return ApproxiferConfig.model_validate(sections(model_yaml)[1])
    except ValidationError as error:
        raise ConfigError(problems(error, f"{SECTION}.")) from None


def problems(error: ValidationError, prefix: str) -> str:
    """Says what pydantic found wrong, a line for each key: expectation and value.

    Args:
        error: What validation raised.
        prefix: Stands before each key: the section, or a file's name.
    """
    lines = []
    for problem in error.errors():
        key = prefix + ".".join(str(part) for part in problem["loc"])
        said = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown key; remove it or check its spelling")
        elif problem["type"] == "missing" or not problem["loc"]:
            lines.append(f"{key.rstrip(': ')}: {said}")
        else:
            lines.append(f"{key}: {said}, got {problem['input']!r}")
    return "\n".join(lines)
