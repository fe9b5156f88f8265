"""Chaos as a reader sees it: the timeline of faults and answers, a table, checks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.patches import Patch

from approxifer_torchserve.bench.chaos.faults import KINDS
from approxifer_torchserve.bench.chaos.run import GRACE_S, Run
from approxifer_torchserve.bench.harness.plot import COLOURS, plt, save
from approxifer_torchserve.bench.harness.report import Report, Table

FAULTS = dict(zip(KINDS, (COLOURS[one] for one in ("red", "blue", "yellow", "pink")), strict=True))
ANSWERS = {
    "exact": "#bbbbbb", "hedged": COLOURS["green"], "reconstructed": COLOURS["sky"],
    "refused": COLOURS["orange"], "lost": "#000000",
}  # fmt: skip
COLUMNS = (
    "variant", "schedule", "requests", "exact", "hedged", "reconstructed", "refused", "lost",
    "wrong", "damaged", "p50 ms", "p99 ms", "max ms", "faults", "most at once",
)  # fmt: skip


def report(out: Path, runs: Sequence[Run]) -> Report:
    """Draws a timeline per run and says what was found.

    Args:
        out: Folder for the timelines.
        runs: The schedules that ran.
    """
    pictures = tuple(f"timeline-{run.variant.slug}-{run.schedule}.png" for run in runs)
    for run, name in zip(runs, pictures, strict=True):
        plot_timeline(out / name, run)
    size = runs[0].size
    lead = (
        f"One model with K = {size.queries}, S = {size.stragglers} on {size.workers} workers, "
        f"{size.rate:g} Poisson requests/s, deadline {size.deadline_ms:g} ms, while workers are "
        "killed, frozen, slowed and made to answer garbage at random. Schedule A: at most S "
        "workers under a fault at a time. Schedule B: any number. Every answer that is called "
        "exact or hedged is compared with the model's own, number by number. Reconstructed ones "
        "are approximations: each must be one that a code can make (bodies are such that all of "
        "those lie on a line), and their median error no more than the code's own. A request is "
        f"lost if it has no final status {GRACE_S:g} s after its deadline."
    )
    return Report(
        "Chaos",
        lead,
        {"runs": [run.facts() for run in runs]},
        (Table("answers under faults", COLUMNS, tuple(_row(run) for run in runs), names=2),),
        tuple(check for run in runs for check in run.checks()),
        pictures,
    )


def _row(run: Run) -> tuple[str, ...]:
    facts = run.facts()
    outcomes = facts["outcomes"]
    return (
        run.variant.name, run.schedule, str(facts["requests"]),
        *(str(outcomes.get(name, 0)) for name in ("exact", "hedged", "reconstructed")),
        str(len(run.refused)), *(str(facts[name]) for name in ("lost", "wrong", "damaged")),
        f"{facts['p50_ms']:.1f}", f"{facts['p99_ms']:.0f}", f"{facts['max_ms']:.0f}",
        str(len(run.events)), str(facts["most_at_once"]),
    )  # fmt: skip


def plot_timeline(path: Path, run: Run) -> None:
    """Draws latencies over time above the faults of each worker.

    Args:
        path: A .png file to write.
        run: What happened.
    """
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(12, 6), sharex=True, height_ratios=(3, 2), constrained_layout=True
    )
    groups: dict[str, list[tuple[float, float]]] = {name: [] for name in ANSWERS}
    for one in run.attempts:
        name = one.outcome if one.status == 200 else "lost" if one.status == 0 else "refused"
        groups.setdefault(name, []).append((one.sent_s, 1e3 * one.latency_s))
    for name, points in groups.items():
        if points:
            above.scatter(
                *zip(*points, strict=True), s=5, label=f"{name} ({len(points)})",
                color=ANSWERS.get(name), linewidths=0,
            )  # fmt: skip
    above.axhline(run.size.deadline_ms, color="black", linestyle=":", linewidth=1)
    title = f"{run.variant.name} bodies, schedule {run.schedule}"
    above.set(yscale="log", ylabel="latency, ms", title=title)
    above.legend(loc="upper right", ncols=5, markerscale=3, fontsize="small")
    above.grid(alpha=0.25)
    names = sorted({event.worker for event in run.events})
    for event in run.events:
        length = (event.end_s or run.seconds) - event.start_s
        below.barh(names.index(event.worker), length, left=event.start_s, color=FAULTS[event.kind])
    below.set(yticks=range(len(names)), yticklabels=names, xlabel="seconds", ylabel="worker")
    below.legend(
        handles=[Patch(color=colour, label=kind) for kind, colour in FAULTS.items()],
        loc="upper right", ncols=4, fontsize="small",
    )  # fmt: skip
    save(figure, path)
