"""``approxifer archive``: one coded .mar from a model."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
import yaml
from rich.markup import escape
from rich.table import Table

from approxifer_torchserve.cli.model_options import split_roles
from approxifer_torchserve.cli.output import Json, console, fail, print_json, told_failures

if TYPE_CHECKING:
    from approxifer_torchserve.serving.archive.report import ArchiveReport
    from approxifer_torchserve.serving.plan import Plan

part, of_code, of_result = (
    partial(typer.Option, rich_help_panel=panel)
    for panel in ("The model, as torch-model-archiver takes it", "The code", "The result")
)
File: TypeAlias = Path | None
Text: TypeAlias = str | None
Texts: TypeAlias = list[str] | None


def run(
    mar: Annotated[File, part(help="An existing archive to wrap, instead of parts.")] = None,
    model_name: Annotated[Text, part()] = None,
    version: Annotated[Text, part("--version", "-v")] = None,
    model_file: Annotated[File, part(help="The model's class.")] = None,
    serialized_file: Annotated[File, part(help="Its weights.")] = None,
    from_checkpoint: Annotated[
        File,
        part(help="A Lightning checkpoint of training with DegradedAccuracy, instead of "
             "--serialized-file: its weights, the code that was measured, and its report."),
    ] = None,
    handler: Annotated[
        Text, part(help="Your handler's file, or one of TorchServe's by name.")
    ] = None,
    extra_files: Annotated[Text, part(help="More files, separated by commas.")] = None,
    requirements_file: Annotated[File, part()] = None,
    config_file: Annotated[File, part(help="Your model-config.yaml.")] = None,
    queries: Annotated[
        int | None, of_code("--queries", "-k", min=1, help="K: queries per group [8].")
    ] = None,
    stragglers: Annotated[
        int | None, of_code("--stragglers", "-s", min=0, help="S: answers that may miss [1].")
    ] = None,
    byzantine: Annotated[
        int | None, of_code("--byzantine", "-e", min=0, help="E: answers that may be wrong [0].")
    ] = None,
    code: Annotated[
        Text, of_code(help="A code by name: see approxifer codes [approxifer].")
    ] = None,
    option: Annotated[Texts, of_code(help="An option of the code, as key=value.")] = None,
    policy: Annotated[
        Texts, of_code(help="A setting of the policy, such as late_after_ms=100.")
    ] = None,
    disabled: Annotated[bool, of_code("--disabled", help="A twin served plainly.")] = False,
    report: Annotated[File, of_code(help="Accuracy report that may allow reconstruction.")] = None,
    locator: Annotated[
        File,
        of_code(help="A locator that approxifer calibrate fitted to this model and code, for "
                "--byzantine or verify=parity."),
    ] = None,
    weights: Annotated[
        Texts,
        of_code(metavar="ROLE=FILE", help="The weights of a code's role, as "
                "parity=parity.safetensors for --code parm: TorchScript, or safetensors for the "
                "model's class."),
    ] = None,
    sample: Annotated[
        File, of_result(help="A request's body to try the wrapped handler on, and for workers to "
                        "warm up on.")
    ] = None,
    output: Annotated[File, of_result("--output", "-o", help="The archive to write.")] = None,
    export_path: Annotated[
        Path, of_result(help="Its folder, where --output is not given.")
    ] = Path("."),
    archive_format: Annotated[
        str, of_result(help="default (.mar), tgz or no-archive.")
    ] = "default",
    force: Annotated[bool, of_result("--force", "-f", help="Replace what is there.")] = False,
    rewrap: Annotated[
        bool, of_result("--rewrap", help="--mar is coded already: wrap it anew.")
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
    from approxifer_torchserve.serving.archive.options import Existing, Options, Parts

    source: Parts | Existing
    if mar is None and model_name is not None and handler is not None:
        source = Parts(
            model_name=model_name,
            handler=handler,
            model_file=model_file,
            serialized_file=serialized_file,
            extra_files=tuple(name for name in (extra_files or "").split(",") if name),
            requirements_file=requirements_file,
            config_file=config_file,
            version=version or "1.0",
        )
    elif mar is not None and not any(
        (handler, model_file, serialized_file, from_checkpoint, extra_files, requirements_file)
    ):
        source = Existing(
            path=mar,
            model_name=model_name,
            version=version,
            config_file=config_file,
            rewrap=rewrap,
        )
    else:
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
    shape = {"name": code, "queries": queries, "stragglers": stragglers, "byzantine": byzantine}
    chosen = {key: value for key, value in shape.items() if value is not None}
    settings: dict[str, Any] = {
        "code": {**chosen, **_pairs(option, "--option")},
        "policy": _pairs(policy, "--policy"),
    }
    if disabled:
        settings["enabled"] = False
    model, roles = split_roles(weights)
    if model is not None:
        raise typer.BadParameter(f"expected ROLE=FILE, got {model}", param_hint="--weights")

    from approxifer_torchserve.serving.archive.weights import RolesError
    from approxifer_torchserve.serving.archive.wrap import wrap_archive

    with told_failures():
        folder = export_path if output is None else output.parent
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".approxifer-", dir=folder) as made:
            if from_checkpoint is not None and isinstance(source, Parts) and model_file is not None:
                from approxifer_torchserve.serving.archive.checkpoint import unpack_checkpoint

                found = unpack_checkpoint(from_checkpoint, Path(made), model_file, settings["code"])
                source = source.model_copy(update={"serialized_file": found.weights})
                report, settings["code"] = report or found.report, found.code
            options = Options(
                approxifer={key: value for key, value in settings.items() if value != {}},
                report=report,
                locator=locator,
                weights=roles,
                sample=sample,
            )
            try:
                result = wrap_archive(
                    source,
                    options,
                    export_path=folder if output is None else Path(made),
                    archive_format=archive_format,
                    force=force,
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
    """Reads key=value options; values are YAML: numbers, booleans and lists are what they seem."""
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


def _moved(result: ArchiveReport, output: Path) -> ArchiveReport:
    os.replace(result.path, output)
    return result.model_copy(update={"path": output})


def describe_check(plan: Plan) -> str:
    """Says how a plan's answers are verified, for a reader."""
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
    """Prints what was made and how to use it."""
    plan = result.plan
    table = Table(show_header=False, box=None)
    # A path, or what a user wrote, is no markup.
    table.add_row("archive", escape(str(result.path)))
    table.add_row("model", escape(result.model_name))
    policy = plan.policy
    table.add_row("mode", f"{plan.mode}: K = {plan.queries}, {plan.num_workers} coded queries")
    table.add_row("hedge", "yes" if policy.hedge else "no")
    table.add_row(
        "reconstruct", "yes" if policy.reconstruct else escape(f"no: {policy.reconstruct_reason}")
    )
    table.add_row("check", describe_check(plan))
    for key, value in result.capability.model_dump().items():
        if isinstance(value, (list, tuple)) and value:
            table.add_row(key, escape("; ".join(map(str, value))))
    if result.sample is not None:
        tried = result.sample
        times = ", ".join(f"{kind} {ms:.2f} ms" for kind, ms in tried.milliseconds.items())
        shapes = f"{', '.join(tried.query)} to {', '.join(tried.prediction)}" if tried.query else ""
        table.add_row("sample", escape(f"{shapes}; answer {tried.answer_bytes} bytes; {times}"))
    for warning in result.warnings:
        table.add_row("[yellow]warning[/]", escape(warning))
    console.print(table)
    show_changes(result.changes)
    console.print(
        "\nthe same with TorchServe's own tool, in the unpacked folder without MAR-INF:",
        style="dim",
    )
    console.print(result.archiver_command, soft_wrap=True, markup=False)
    console.print("\nserve it (the file must lie in the server's model store):", style="dim")
    console.print(result.register_command, soft_wrap=True, markup=False)
    deploy = ["approxifer", "deploy", result.path.name]
    if result.initial_workers is not None:
        deploy += ["--workers", str(result.initial_workers)]
    console.print(shlex.join(deploy), soft_wrap=True, markup=False)


def show_changes(changes: list[str]) -> None:
    """Prints what wrapping changed in ``model-config.yaml``, as a diff."""
    if not changes:
        console.print("\nno setting of model-config.yaml was changed", style="dim")
        return
    console.print("\nsettings that you asked to change:", style="dim")
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for number, line in enumerate(changes):
        style = "bold" if number < 2 else colours.get(line[:1], "")
        console.print(line, style=style, soft_wrap=True, markup=False)
