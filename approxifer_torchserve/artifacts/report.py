"""The accuracy report: what evaluation measured of codes on a model, as serving reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from approxifer_torchserve.artifacts.weights import digest


class ReportError(ValueError):
    """A report cannot be used; the message names the file and the key, or what was measured."""


class CodeAccuracy(BaseModel):
    """Accuracies of one code.

    Attributes:
        A_d: Over the lost queries only, a fraction in 0..1.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    A_d: float = Field(ge=0, le=1)


class AccuracyReport(BaseModel):
    """What an evaluation found; keys beyond these are for people.

    Attributes:
        base_accuracy: The model's own accuracy, without a code, a fraction above 0.
        codes: Each code's accuracies, by its ``code_key``.
        weights: By role, the sha256 of the file that codes with weights of their own were measured
            with.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    base_accuracy: float = Field(gt=0, le=1)
    codes: dict[str, CodeAccuracy]
    weights: dict[str, str] = {}

    def check_weights(self, given: Mapping[str, Path]) -> None:
        """Refuses weights that are not those that were measured.

        Args:
            given: A file for each role; roles of which the report says nothing are taken.

        Raises:
            ReportError: A role's file has another sha256.
        """
        for role, path in given.items():
            if self.weights.get(role, found := digest(path)) != found:
                raise ReportError(
                    f"report: it was measured with other weights of {role}, sha256 "
                    f"{self.weights[role][:12]}…, not with {path}, {found[:12]}…; give that file, "
                    "or measure this one (approxifer evaluate)"
                )


def load_report(path: Path) -> AccuracyReport:
    """Reads a report file.

    Args:
        path: A ``report.json`` of an evaluation.

    Returns:
        What serving needs of it.

    Raises:
        OSError: The file cannot be read.
        ReportError: It is not JSON, or a key is missing or out of range.
    """
    try:
        return AccuracyReport.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()
        )
        raise ReportError(f"report {path.name}: {problems}") from None


def code_key(name: str, settings: Mapping[str, object]) -> str:
    """Returns the key under which a report holds a code.

    Args:
        name: The code's name, as ``make_code`` takes it.
        settings: K, S and E by the names that ``make_code`` has for them, and the code's options.

    Returns:
        The name with its settings in order.

    Example:
        >>> code_key("parm", {"queries": 4, "stragglers": 1, "byzantine": 0})
        'parm(byzantine=0,queries=4,stragglers=1)'
    """
    return f"{name}({','.join(f'{key}={settings[key]}' for key in sorted(settings))})"
