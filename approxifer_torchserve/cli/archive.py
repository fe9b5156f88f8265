"""``approxifer archive``: one coded .mar from a model."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.table import Table

from approxifer_torchserve.cli.output import Json, console, fail, print_json, told_failures

if TYPE_CHECKING:
    from approxifer_torchserve.serving.archive.wrap import ArchiveReport
    from approxifer_torchserve.serving.plan import Plan

PARTS, CODE, RESULT = "The model, as torch-model-archiver takes it", "The code", "The result"


def run(
    mar: Annotated[
        Path | None,
        typer.Option(help="An existing archive to wrap, instead of parts.", rich_help_panel=PARTS),
    ] = None,
    model_name: Annotated[str | None, typer.Option(rich_help_panel=PARTS)] = None,
    version: Annotated[str | None, typer.Option("--version", "-v", rich_help_panel=PARTS)] = None,
    model_file: Annotated[
        Path | None, typer.Option(help="The model's class.", rich_help_panel=PARTS)
    ] = None,
    serialized_file: Annotated[
        Path | None, typer.Option(help="Its weights.", rich_help_panel=PARTS)
    ] = None,
    from_checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="A Lightning checkpoint of training with DegradedAccuracy, instead of "
            "--serialized-file: its weights, the code that was measured, and its report.",
            rich_help_panel=PARTS,
        ),
    ] = None,
    handler: Annotated[
        str | None,
        typer.Option(
            help="Your handler's file, or one of TorchServe's by name.", rich_help_panel=PARTS
        ),
    ] = None,
    extra_files: Annotated[
        str | None, typer.Option(help="More files, separated by commas.", rich_help_panel=PARTS)
    ] = None,
    requirements_file: Annotated[Path | None, typer.Option(rich_help_panel=PARTS)] = None,
    config_file: Annotated[
        Path | None, typer.Option(help="Your model-config.yaml.", rich_help_panel=PARTS)
    ] = None,
    queries: Annotated[
        int | None, typer.Option("--queries", "-k", min=1, help="K: queries per group [8].",
                                 rich_help_panel=CODE)
    ] = None,
    stragglers: Annotated[
        int | None, typer.Option("--stragglers", "-s", min=0, help="S: answers that may miss [1].",
                                 rich_help_panel=CODE)
    ] = None,
    byzantine: Annotated[
        int | None, typer.Option("--byzantine", "-e", min=0, help="E: answers that may be wrong "
                                 "[0].", rich_help_panel=CODE)
    ] = None,
    code: Annotated[
        str | None, typer.Option(help="A code by name: see approxifer codes [approxifer].",
                                 rich_help_panel=CODE)
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="An option of the code, as key=value.",
                                       rich_help_panel=CODE)
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="A setting of the policy, such as late_after_ms=100.",
                                       rich_help_panel=CODE)
    ] = None,
    disabled: Annotated[
        bool, typer.Option("--disabled", help="A twin served plainly.", rich_help_panel=CODE)
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Accuracy report that may allow reconstruction.",
                                  rich_help_panel=CODE)
    ] = None,
    locator: Annotated[
        Path | None, typer.Option(help="A locator that approxifer calibrate fitted to this model "
                                  "and code, for --byzantine or verify=parity.",
                                  rich_help_panel=CODE)
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option(metavar="ROLE=FILE", help="The weights of a code's role, "
                                       "as parity=parity.safetensors for --code parm: "
                                       "TorchScript, or safetensors for the model's class.",
                                       rich_help_panel=CODE)
    ] = None,
    sample: Annotated[
        Path | None, typer.Option(help="A request's body to try the wrapped handler on.",
                                  rich_help_panel=RESULT)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The archive to write.",
                                  rich_help_panel=RESULT)
    ] = None,
    export_path: Annotated[
        Path, typer.Option(help="Its folder, where --output is not given.", rich_help_panel=RESULT)
    ] = Path("."),
    archive_format: Annotated[
        str, typer.Option(help="default (.mar), tgz or no-archive.", rich_help_panel=RESULT)
    ] = "default",
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace what is there.", rich_help_panel=RESULT)
    ] = False,
    rewrap: Annotated[
        bool, typer.Option("--rewrap", help="--mar is coded already: wrap it anew.",
                           rich_help_panel=RESULT)
    ] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    r"""Wrap a model into one coded archive; your handler stays as it is.

    From an archive you have:

      approxifer archive --mar resnet.mar --queries 8 --stragglers 1 --output store/resnet.mar

    From parts, with a request to try it on:

      approxifer archive --model-name digits --model-file model.py --serialized-file digits.pt
      --handler digits_handler.py --sample seven.png --export-path store

    From a checkpoint, with the code that was measured while it was trained:

      approxifer archive --model-name digits --model-file model.py --from-checkpoint best.ckpt
      --handler digits_handler.py --export-path store

    With classic ApproxIFER instead of the systematic one:

      approxifer archive --mar resnet.mar --option systematic=false --option nodes=authors

    With a check against workers that lie, by a locator fitted to this model:

      approxifer archive --mar resnet.mar --policy verify=parity --locator locator.safetensors

    With ParM, whose parity has weights of its own:

      approxifer archive --mar resnet.mar --code parm --queries 4 --report accuracy.json
      --weights parity=parity.safetensors --policy on_late='\[hedge, reconstruct]'
    """
    if (mar is None) == (model_name is None or handler is None):
        raise typer.BadParameter(
            "give either --mar, or --model-name and --handler with the model's files",
            param_hint="--mar",
        )
    if from_checkpoint is not None and (model_file is None or serialized_file is not None):
        raise typer.BadParameter(
            "goes with --model-file, and without --serialized-file", param_hint="--from-checkpoint"
        )
    if output is not None and archive_format != "default":
        raise typer.BadParameter("goes with the default format only", param_hint="--output")
    if output is not None and output.exists() and not force:
        raise fail(f"{output} is there already; --force replaces it")
    chosen = {
        "name": code, "queries": queries, "stragglers": stragglers, "byzantine": byzantine,
        **_pairs(option, "--option"),
    }  # fmt: skip
    settings: dict[str, Any] = {
        "code": {key: value for key, value in chosen.items() if value is not None},
        "policy": _pairs(policy, "--policy"),
    }
    settings = {key: value for key, value in settings.items() if value}
    if disabled:
        settings["enabled"] = False

    from approxifer_torchserve.serving.archive.weights import RolesError
    from approxifer_torchserve.serving.archive.wrap import wrap_archive

    roles = _files(weights, "--weights")
    with told_failures():
        folder = export_path if output is None else output.parent
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".approxifer-", dir=folder) as made:
            if from_checkpoint is not None and model_file is not None:
                from approxifer_torchserve.serving.archive.checkpoint import unpack_checkpoint

                parts = unpack_checkpoint(
                    from_checkpoint, Path(made), model_file, settings.get("code")
                )
                serialized_file, report = parts.weights, report or parts.report
                settings["code"] = parts.code
            try:
                result = wrap_archive(
                    mar,
                    export_path=folder if output is None else Path(made),
                    model_name=model_name,
                    handler=handler,
                    model_file=model_file,
                    serialized_file=serialized_file,
                    extra_files=[name for name in (extra_files or "").split(",") if name],
                    requirements_file=requirements_file,
                    config_file=config_file,
                    version=version,
                    approxifer=settings,
                    report=report,
                    locator=locator,
                    weights=roles,
                    sample=sample,
                    archive_format=archive_format,
                    force=force,
                    rewrap=rewrap,
                )
            except RolesError as error:
                raise typer.BadParameter(str(error), param_hint="--weights") from error
            if output is not None:
                result = _moved(result, output)
    if as_json:
        print_json(json.loads(result.model_dump_json()))
        return
    show(result)


def _pairs(given: list[str] | None, option: str) -> dict[str, Any]:
    """Read key=value options; values are YAML: numbers, booleans and lists are what they seem."""
    pairs = {}
    for text in given or []:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"expected key=value, got {text!r}", param_hint=option)
        try:
            pairs[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise typer.BadParameter(f"{key}: {error}", param_hint=option) from error
    return pairs


def _files(given: list[str] | None, option: str) -> dict[str, Path]:
    files = {}
    for text in given or []:
        role, equals, name = text.partition("=")
        if not role or not equals or not name or role in files:
            raise typer.BadParameter(
                f"expected role=file, each role once, got {text!r}", param_hint=option
            )
        files[role] = Path(name)
    return files


def _moved(result: ArchiveReport, output: Path) -> ArchiveReport:
    os.replace(result.path, output)
    command = result.register_command.replace(f"url={result.path.name}", f"url={output.name}")
    return result.model_copy(update={"path": output, "register_command": command})


def describe_check(plan: Plan) -> str:
    """Say how a plan's answers are verified, for a reader."""
    if not plan.enabled:
        return "none: served plainly"
    what = {
        "none": "none: a wrong answer is not noticed, but for probes",
        "pair": "pair: two workers compute each query, a third decides",
        "vote": f"vote: {plan.copies} workers compute each query, {plan.agree} must agree",
        "screen": "screen: the answers of a group are compared with its parities",
        "locate": "locate: decoding leaves out answers that do not fit",
    }[plan.check]
    if not plan.locates:
        return what
    fitted = plan.worker.locator is not None
    return f"{what}, by {'a fitted locator' if fitted else 'the default: gross faults only'}"


def show(result: ArchiveReport) -> None:
    """Print what was made and how to use it."""
    plan = result.plan
    table = Table(show_header=False, box=None)
    table.add_row("archive", str(result.path))
    table.add_row("model", result.model_name)
    policy = plan.policy
    table.add_row("mode", f"{plan.mode}: K = {plan.queries}, {plan.num_workers} coded queries")
    table.add_row("hedge", "yes" if policy.hedge else "no")
    table.add_row(
        "reconstruct", "yes" if policy.reconstruct else f"no: {policy.reconstruct_reason}"
    )
    table.add_row("check", describe_check(plan))
    for key, value in result.capability.model_dump().items():
        if isinstance(value, (list, tuple)) and value:
            table.add_row(key, "; ".join(map(str, value)))
    if result.sample is not None:
        tried = result.sample
        times = ", ".join(f"{kind} {ms:.2f} ms" for kind, ms in tried.milliseconds.items())
        shapes = f"{', '.join(tried.query)} to {', '.join(tried.prediction)}" if tried.query else ""
        table.add_row("sample", f"{shapes}; answer {tried.answer_bytes} bytes; {times}")
    for warning in result.warnings:
        table.add_row("[yellow]warning[/]", warning)
    console.print(table)
    console.print("\nthe same with TorchServe's own tool, on the unpacked files:", style="dim")
    console.print(result.archiver_command, soft_wrap=True, markup=False)
    console.print("\nserve it (the file must lie in the server's model store):", style="dim")
    console.print(result.register_command, soft_wrap=True, markup=False)
    console.print(f"approxifer deploy {result.path.name}", soft_wrap=True, markup=False)
