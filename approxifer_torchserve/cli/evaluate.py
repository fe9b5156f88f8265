"""``approxifer evaluate``: what each code costs a model in accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from approxifer_torchserve.cli.model_options import (
    MODEL,
    RUN,
    Device,
    Mean,
    RoleWeights,
    Seed,
    Size,
    Std,
    numbers,
    scales,
    split_roles,
    told_errors,
)
from approxifer_torchserve.cli.output import Json, console, errors, print_json

CODES = "Codes"


def run(
    model: Annotated[
        str,
        typer.Option(help="A .mar, a TorchScript file, or module:Class.", rich_help_panel=MODEL),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="An .npz, a folder with a folder of images per class, or module:function.",
            rich_help_panel=MODEL,
        ),
    ],
    weights: RoleWeights = None,
    mean: Mean = "0",
    std: Std = "1",
    size: Size = None,
    task: Annotated[
        str | None,
        typer.Option(help="multiclass, binary or regression.", rich_help_panel=MODEL),
    ] = None,
    codes: Annotated[
        str,
        typer.Option(help="By commas, each name[:option=value]...", rich_help_panel=CODES),
    ] = "approxifer,approxifer:nodes=authors,replication,uncoded",
    queries: Annotated[
        int, typer.Option("--queries", "-k", help="K.", min=1, rich_help_panel=CODES)
    ] = 8,
    stragglers: Annotated[
        str, typer.Option("--stragglers", "-s", help="S, by commas.", rich_help_panel=CODES)
    ] = "1,2,3",
    byzantine: Annotated[
        int, typer.Option(help="E, wrong answers beside.", min=0, rich_help_panel=CODES)
    ] = 0,
    error_kind: Annotated[
        str, typer.Option(help="What they are: gaussian, sign_flip, …", rich_help_panel=CODES)
    ] = "gaussian",
    error_scale: Annotated[
        float | None, typer.Option(help="Their size [the kind's own].", rich_help_panel=CODES)
    ] = None,
    domain: Annotated[
        str,
        typer.Option(help="logits, probabilities, log_probabilities.", rich_help_panel=CODES),
    ] = "logits",
    order: Annotated[
        str, typer.Option(help="arrival, similarity or grouped.", rich_help_panel=CODES)
    ] = "arrival",
    groups: Annotated[int, typer.Option(help="Groups of K.", min=1, rich_help_panel=RUN)] = 1000,
    calibration: Annotated[
        int, typer.Option(help="Queries for the mean guess.", min=1, rich_help_panel=RUN)
    ] = 512,
    max_patterns: Annotated[
        int, typer.Option(help="Patterns of losses per code.", min=1, rich_help_panel=RUN)
    ] = 128,
    batch_size: Annotated[
        int, typer.Option(help="Queries per forward.", min=1, rich_help_panel=RUN)
    ] = 256,
    device: Device = "cpu",
    seed: Seed = 0,
    out: Annotated[
        Path, typer.Option(help="Folder for the report.", file_okay=False, rich_help_panel=RUN)
    ] = Path("build/evaluate"),
    as_json: Json = False,
) -> None:
    """Measure what losing workers costs a model: one table for all codes, with advice.

    Writes report.json (which archive --report takes), report.html and plots. The same command goes
    on where it was interrupted.

      approxifer evaluate --model resnet.mar --data test.npz --queries 8 --stragglers 1,2

      approxifer evaluate --model net:Net --weights net.pt --data photos --size 32

      approxifer evaluate --model resnet.pt --data test.npz --codes parm --weights parity=p.pt -s 1
    """
    losses, pixels = numbers(int, "--stragglers", stragglers), scales(mean, std)
    own_file, role_files = split_roles(weights)
    _one_of("--task", task, (None, "multiclass", "binary", "regression"))
    _one_of("--domain", domain, ("logits", "probabilities", "log_probabilities"))
    _one_of("--order", order, ("arrival", "similarity", "grouped"))
    with told_errors("an evaluation"):
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401

        from approxifer_torchserve.artifacts import weights as own_weights
        from approxifer_torchserve.artifacts.models import load_model
        from approxifer_torchserve.evaluation.data import load_data
        from approxifer_torchserve.evaluation.forwards import check_roles, on_device
        from approxifer_torchserve.evaluation.inputs import Scaling
        from approxifer_torchserve.evaluation.report import build_report, write_report
        from approxifer_torchserve.evaluation.run import Settings
        from approxifer_torchserve.evaluation.run import run as measure
        from approxifer_torchserve.evaluation.showing import draw_table
        from approxifer_torchserve.evaluation.specs import make_cases

        cases = make_cases([c for c in codes.split(",") if c], queries, losses, byzantine)
        settings = Settings(
            cases,
            groups=groups,
            seed=seed,
            task=task,  # type: ignore[arg-type]
            domain=domain,  # type: ignore[arg-type]
            order=order,  # type: ignore[arg-type]
            max_patterns=max_patterns,
            error_kind=error_kind,
            error_scale=error_scale,
            calibration=calibration,
            batch_size=batch_size,
        )
        check_roles([case.code for case in cases], role_files)
        loaded, identity = load_model(model, own_file)
        forward = on_device(loaded, device)
        others = {
            role: on_device(
                own_weights.load(
                    role_files[role], loaded, device, own_weights.describe(case.code, role)
                ),
                device,
            )
            for case in cases
            for role in case.code.roles
        }
        digests = {role: own_weights.digest(path) for role, path in role_files.items()}
        labelled = load_data(data, Scaling(*pixels, size))
        with Progress(console=errors, transient=True, disable=as_json) as progress:
            bar = progress.add_task("groups", total=groups)
            measured = measure(
                forward,
                labelled,
                settings,
                weights=others,
                identity="\0".join([identity, *map(str, sorted(digests.items()))]),
                folder=out,
                progress=lambda done, of: progress.update(bar, completed=done, total=of),
            )
        said = {"seed": seed, "order": order, "domain": domain, "weights": digests}
        report = build_report(measured, model=model, data=data, **said)
        write_report(out, report)
    if as_json:
        print_json(report)
        return
    console.print(draw_table(measured))
    console.print(report["advice"], markup=False)
    console.print(f"\nreport: {out / 'report.html'}")


def _one_of(option: str, given: str | None, allowed: tuple[str | None, ...]) -> None:
    if given not in allowed:
        names = ", ".join(name for name in allowed if name)
        raise typer.BadParameter(f"expected one of {names}, got {given!r}", param_hint=option)
