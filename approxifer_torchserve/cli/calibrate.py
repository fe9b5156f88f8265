"""``approxifer calibrate``: a locator for a model's workers, from inputs without labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from approxifer_torchserve import __version__
from approxifer_torchserve.cli.model_options import (
    MODEL,
    RUN,
    Device,
    Mean,
    Seed,
    Size,
    Std,
    Weights,
    scales,
    told_errors,
)
from approxifer_torchserve.cli.output import Json, console, errors, print_json

CODE = "The code"
SHAPE = {"queries": 8, "stragglers": 1, "byzantine": 0}
"""K, S and E where neither options nor the archive say."""


def run(
    model: Annotated[
        str,
        typer.Option(
            help="A .mar (a coded one also gives the code), a TorchScript file, or module:Class.",
            rich_help_panel=MODEL,
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="Inputs like those to be served, without labels: an .npz, a folder of images, or "
            "module:function.",
            rich_help_panel=MODEL,
        ),
    ],
    weights: Weights = None,
    mean: Mean = "0",
    std: Std = "1",
    size: Size = None,
    limit: Annotated[
        int, typer.Option(help="The most inputs to take.", min=1, rich_help_panel=MODEL)
    ] = 5000,
    code: Annotated[
        str | None,
        typer.Option(help="name[:option=value]... [the archive's, or approxifer]",
                     rich_help_panel=CODE),
    ] = None,
    queries: Annotated[
        int | None, typer.Option("--queries", "-k", help="K [the archive's, or 8].", min=1,
                                 rich_help_panel=CODE)
    ] = None,
    stragglers: Annotated[
        int | None, typer.Option("--stragglers", "-s", help="S [the archive's, or 1].", min=0,
                                 rich_help_panel=CODE)
    ] = None,
    byzantine: Annotated[
        int | None, typer.Option("--byzantine", "-e", help="E; 0 is for verify=parity [the "
                                 "archive's, or 0].", min=0, rich_help_panel=CODE)
    ] = None,
    level: Annotated[
        float, typer.Option(help="Share of honest groups that may be suspected.",
                            rich_help_panel=RUN)
    ] = 0.005,
    groups: Annotated[
        int, typer.Option(help="Groups to run through the model.", min=4, rich_help_panel=RUN)
    ] = 4000,
    steps: Annotated[
        int, typer.Option(help="Training steps; for the code pairs.", min=1, rich_help_panel=RUN)
    ] = 4000,
    device: Device = "cpu",
    seed: Seed = 0,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The locator to write; a report goes beside it.",
                           dir_okay=False, rich_help_panel=RUN)
    ] = Path("build/calibrate/locator.safetensors"),
    as_json: Json = False,
) -> None:  # fmt: skip
    """Fit a locator: what tells a wrong answer of a worker from this model's usual ones.

    Inputs must look as your handler's preprocess leaves them (--mean, --std, --size), and the model
    must give what its inference gives. Some thousand are good, some hundreds the least.

      approxifer calibrate --model store/resnet.mar --data photos --size 224 --out l.safetensors

      approxifer calibrate --model resnet.pt --data inputs.npz --code pairs -k 8 -s 0 -e 1

    What comes next: put it into the archive, with the same code, and for E = 0 with a check that
    uses it:

      approxifer archive --mar resnet.mar --code pairs -k 8 -s 0 -e 1 --locator l.safetensors

      approxifer archive --mar resnet.mar --policy verify=parity --locator l.safetensors
    """
    pixels = scales(mean, std)
    with told_errors("calibrating"):
        from approxifer_torchserve.artifacts.locator_file import save_locator
        from approxifer_torchserve.artifacts.models import load_model
        from approxifer_torchserve.codes import LocatingCode
        from approxifer_torchserve.evaluation.calibration import fit_and_try
        from approxifer_torchserve.evaluation.forwards import on_device
        from approxifer_torchserve.evaluation.inputs import Scaling, load_inputs
        from approxifer_torchserve.evaluation.specs import CodeSpec, parse_spec

        archived = archived_code(Path(model))
        settings: dict[str, Any] = {"name": "approxifer", **SHAPE, **archived}
        given = {"queries": queries, "stragglers": stragglers, "byzantine": byzantine}
        settings |= {key: value for key, value in given.items() if value is not None}
        shape: dict[str, int] = {key: settings.pop(key) for key in SHAPE}
        spec = parse_spec(settings) if code is None else parse_spec(code)
        # A locator of another fit, or the paper's, has nothing to do with this one.
        spec = CodeSpec(spec.name, tuple(o for o in spec.options if o[0] != "locator"))
        made = spec.make(**shape)
        if not isinstance(made, LocatingCode):
            raise ValueError(f"code: {spec.name} takes no locator; use approxifer or pairs")
        loaded, _ = load_model(model, weights)
        inputs = load_inputs(data, Scaling(*pixels, size))
        fetched = inputs.fetch(range(min(inputs.count, limit)))

        with Progress(console=errors, transient=True, disable=as_json) as progress:
            bar = progress.add_task("groups", total=groups)

            def show(done: int, of: int) -> None:
                name = "training" if of == steps else "groups"
                progress.update(bar, description=name, completed=done, total=of)

            result = fit_and_try(
                made, on_device(loaded, device), fetched, groups=groups, level=level, steps=steps,
                seed=seed, progress=show,
            )  # fmt: skip
        out.parent.mkdir(parents=True, exist_ok=True)
        save_locator(result.locator, out)
    report = {
        "package": __version__,
        "model": model,
        "data": data,
        "inputs": min(inputs.count, limit),
        "code": {"name": spec.name, **dict(spec.options), **shape},
        "level": level,
        "groups": groups,
        "seed": seed,
        "locator": str(out),
        "kind": result.locator.kind,
        "fingerprint": result.locator.fingerprint,
        "held_out_groups": result.trials,
        "clean_groups_suspected": result.suspected,
        "lies_found": result.found,
        "milliseconds_per_group": result.milliseconds,
    }  # fmt: skip
    out.with_suffix(".json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    if as_json:
        print_json(report)
        return
    show_report(report, bool(archived))


def archived_code(path: Path) -> dict[str, Any]:
    """Reads the code's settings out of a coded archive; empty for anything else."""
    from approxifer_torchserve.serving.plan import Plan

    plan = Plan.of_archive(path)
    return {} if plan is None else plan.code.model_dump()


def show_report(report: dict[str, Any], coded: bool) -> None:
    """Prints what a locator does, and what to do with it, to a coded archive or to another."""
    byzantine = report["code"]["byzantine"]
    told = "the liar is named" if byzantine else "something is noticed"
    table = Table("one worker's lie", told, title="held-out groups")
    for kind, share in report["lies_found"].items():
        table.add_row(kind, f"{share:.3f}")
    console.print(table)
    console.print(
        f"honest groups suspected: {report['clean_groups_suspected']:.4f} of "
        f"{report['held_out_groups']} (level {report['level']}); "
        f"{report['milliseconds_per_group']:.2f} ms per group on one thread"
    )
    console.print(f"\n{report['kind']} locator: {report['locator']}", soft_wrap=True)
    shape = report["code"]
    options = "".join(
        f" --option {key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in shape.items()
        if key not in ("name", *SHAPE)
    )
    source = f"--mar {report['model']} --rewrap" if coded else "--mar <archive>"
    check = "" if byzantine else " --policy verify=parity"
    console.print("next, with your archive:", style="dim")
    console.print(
        f"approxifer archive {source} --code {shape['name']} --queries {shape['queries']} "
        f"--stragglers {shape['stragglers']} --byzantine {byzantine}{options}{check} "
        f"--locator {report['locator']}",
        soft_wrap=True,
        markup=False,
    )
