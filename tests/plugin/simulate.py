"""The policy's scenarios in virtual time: plain TorchServe, the real router, an oracle.

    python tests/plugin/simulate.py                       # both tables
    python tests/plugin/simulate.py --scenario "2 %"      # rows whose name holds this
    python tests/plugin/simulate.py --random 240          # drawn ones, and how they spread

Figures are p50/p99/p99.9 in ms of the requests that were answered, medians over the seeds. Failed:
whoever got no answer of the model's. Goodput: answers within the deadline, over the nominal
capacity. Extra: worker time of all runs but the first of each request, over that of the first ones.
"""

import argparse
import json
import statistics
import sys
import tempfile

import plugin_jvm
import scenarios
import simulator
from rich.console import Console
from rich.progress import Progress
from rich.table import Table


def main():
    options = _options()
    console = Console(stderr=options.json)
    with tempfile.TemporaryDirectory() as classes:
        java = plugin_jvm.start(classes)
        simulator.quiet()
        rows = _random(java, options) if options.random else _named(java, options)
    if not rows:
        sys.exit(f"no scenario's name holds {' or '.join(options.scenario)}")
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    console.print(_table(rows), soft_wrap=True)
    if options.random:
        console.print(_spread(rows))


def _options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", nargs="*", default=[], help="parts of names")
    parser.add_argument("--policies", nargs="*", default=simulator.POLICIES)
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--requests", type=int, default=60_000)
    parser.add_argument("--random", type=int, default=0, help="so many drawn scenarios")
    parser.add_argument("--from-seed", type=int, default=1, help="the first drawn scenario's seed")
    parser.add_argument("--json", action="store_true", help="all figures, to standard output")
    return parser.parse_args()


def _named(java, options):
    chosen = {
        name: scenarios.sized(scenario, options.requests)
        for name, scenario in scenarios.ALL.items()
        if not options.scenario or any(part in name for part in options.scenario)
    }
    with _progress() as progress:
        total = len(chosen) * len(options.policies) * len(options.seeds)
        task = progress.add_task("simulating", total=total)

        def runs(scenario, policy):
            for seed in options.seeds:
                yield simulator.run(java, {**scenario, "seed": seed}, policy)
                progress.advance(task)

        return {
            name: {
                policy: simulator.median(list(runs(scenario, policy)))
                for policy in options.policies
            }
            for name, scenario in chosen.items()
        }


def _random(java, options):
    rows = {}
    with _progress() as progress:
        seeds = range(options.from_seed, options.from_seed + options.random)
        for seed in progress.track(seeds, description="simulating"):
            name, scenario = scenarios.drawn(seed)
            if options.scenario and not any(part in name for part in options.scenario):
                continue
            scenario["requests"] = options.requests
            rows[name] = {
                policy: simulator.run(java, scenario, policy) for policy in options.policies
            }
    return rows


def _progress():
    return Progress(console=Console(stderr=True), transient=True)


def _table(rows):
    table = Table("scenario", "", *next(iter(rows.values())))
    for name, policies in rows.items():
        lines = [_lines(figures) for figures in policies.values()]
        shown = [i for i in range(4) if i == 0 or any(line[i] for line in lines)]
        for i in shown:
            label = ("p50/p99/p99.9", "failed", "goodput", "extra")[i]
            table.add_row(name if i == 0 else "", label, *(line[i] for line in lines))
        if "clean_after_s" in next(iter(policies.values())):
            after = (figures["clean_after_s"] for figures in policies.values())
            table.add_row("", "clean after", *("never" if s is None else f"{s:g} s" for s in after))
    return table


def _lines(figures):
    latency = "/".join(
        "-" if figures[key] is None else f"{figures[key]:.0f}" for key in ("p50", "p99", "p999")
    )
    failed = f"{100 * figures['failed']:.2f} %" if figures["failed"] >= 5e-5 else ""
    goodput = f"{figures['goodput']:.3f}" if figures["failed"] >= 1e-3 else ""
    extra = f"{100 * figures['extra']:.1f} %" if figures["extra"] >= 5e-4 else ""
    return latency, failed, goodput, extra


def spread(rows, other="plain"):
    """Quantiles over scenarios of the router's p99.9 over another's, and the worst one's name."""
    ratios = sorted(
        (policies["router"]["p999"] / policies[other]["p999"], name)
        for name, policies in rows.items()
        if policies["router"]["p999"] and policies[other]["p999"]
    )
    values = [ratio for ratio, _ in ratios]

    def at(share):
        return values[min(len(values) - 1, int(share * len(values)))]

    return {
        "median": statistics.median(values),
        "p95": at(0.95),
        "p99": at(0.99),
        "worst": values[-1],
        "worst_is": ratios[-1][1],
    }


def _spread(rows):
    lines = []
    for other in ("plain", "oracle"):
        if all({"router", other} <= policies.keys() for policies in rows.values()):
            figures = spread(rows, other)
            numbers = ", ".join(f"{k} {v:.2f}" for k, v in figures.items() if k != "worst_is")
            lines.append(f"p99.9 of the router over {other}: {numbers} ({figures['worst_is']})")
    if all({"router", "plain"} <= policies.keys() for policies in rows.values()):
        more = sorted(
            policies["router"]["failed"] - policies["plain"]["failed"] for policies in rows.values()
        )
        many = sum(difference > 0.003 for difference in more)
        lines.append(
            f"more failed than with plain by .3 points in {100 * many / len(more):.0f} % of them, "
            f"{100 * more[-1]:.1f} points at worst"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
