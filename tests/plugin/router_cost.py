"""What the router costs per request: offer, poll and answered, in µs of processor time.

Run as ``python tests/plugin/router_cost.py [--json] [--rounds N] [--against SOURCES]``. The loop
is in Java (``RouterCost``), since a call through JPype costs more than the router. Each figure is
the median over blocks of requests, the lowest of the rounds: other programs only add to it.
``--against`` compiles another folder of plugin sources too and takes turns with it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

from plans import plan_json
from plugin_classes import MAIN, TEST, compile_plugin, server_jar, tool

WORKERS = (8, 72, 256)
WAITING = (0, 10_000)
QUARANTINED = (0, 9, 36)
CASES = tuple(product(WAITING, WORKERS, QUARANTINED))
BLOCKS = 20


def plan():
    """Groups of eight with a parity each, which waits behind the clients' queries."""
    return plan_json(
        mode="systematic",
        reconstruct=True,
        queries=8,
        num_workers=9,
        quorum=8,
        systematic=[*range(8), None],
        models=["base"] * 9,
        max_extra_load=1,
        deadline_ms=10**9,
    )


def compiled(folder, sources):
    """The folder with the plugin's classes and the program that measures them."""
    test = TEST / "java" / "org" / "approxifer" / "torchserve" / "core"
    compile_plugin(folder, sources, test)
    return folder


def measure(classes):
    """One round in a JVM of its own: µs per request by case."""
    cases = [str(n) for waiting, workers, kept in CASES for n in (workers, waiting, kept)]
    path = f"{classes}:{server_jar()}"
    program = [tool("java"), "-Xmx1g", "-cp", path, "org.approxifer.torchserve.core.RouterCost"]
    done = subprocess.run(
        [*program, plan(), str(BLOCKS), *cases], check=True, stdout=subprocess.PIPE, text=True
    )
    costs = {}
    for line in done.stdout.splitlines():
        if line.startswith("cost "):  # others are the JVM's, or a log's
            workers, waiting, kept, *blocks = line.split()[1:]
            costs[int(waiting), int(workers), int(kept)] = statistics.median(map(float, blocks))
    return costs


def best(rounds):
    return {case: min(costs[case] for costs in rounds) for case in CASES}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=3, help="JVMs per side (default: 3)")
    parser.add_argument("--against", type=Path, help="other plugin sources to take turns with")
    arguments = parser.parse_args()
    sides = {"here": MAIN}
    if arguments.against:
        sides = {"against": arguments.against, **sides}
    with tempfile.TemporaryDirectory() as work:
        classes = {side: compiled(Path(work) / side, sources) for side, sources in sides.items()}
        rounds = {side: [] for side in sides}
        for _ in range(arguments.rounds):
            for side in sides:
                rounds[side].append(measure(classes[side]))
    costs = {side: best(rounds[side]) for side in sides}
    rows = [
        {"workers": case[1], "waiting": case[0], "quarantined": case[2]}
        | {f"{side}_us": round(costs[side][case], 2) for side in sides}
        for case in CASES
    ]
    if arguments.json:
        json.dump(rows, sys.stdout, indent=1)
        print()
        return
    print("".join(f"{name:>14}" for name in rows[0]))
    for row in rows:
        print("".join(f"{value:>14}" for value in row.values()))


if __name__ == "__main__":
    main()
