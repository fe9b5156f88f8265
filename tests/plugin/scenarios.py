"""The scenarios of the policy's regression test: what is simulated, under which names.

A scenario is a dict of the fields of `Scenario.java` in snake_case. Unless said otherwise: nine
workers, batches of one, 50 ms of service (lognormal, sigma .1), Poisson arrivals. Load is the
offered rate over the nominal capacity, that of healthy workers with full batches.
"""

import random


def _slow_runs(share, **how):
    return [{"kind": "slow_runs", "share": share, **how}]


def _slow_workers(count=1, **how):
    return [{"kind": "slow_workers", "count": count, **how}]


ONE_SECOND = {"add_ms": 1000}
WIDE = {"sigma": 0.3}
FAILS = [{"kind": "failures"}]
FROZEN = [{"kind": "freezes", "for_s": 5, "every_s": 10}]
DEATHS = [{"kind": "deaths", "every_s": 10, "restart_s": 2, "first_call_s": 3}]
FLAT = {"batch": 8, "flat": 1}
HALF_FLAT = {"batch": 8, "flat": 0.5}
SHIFT = {"service_ms": 20, "shift_to_ms": 120}


def _rows(*rows):
    table = {}
    for name, load, faults, more in rows:
        table[f"{name} @{load:g}"] = {"phases": [{"load": load}], "faults": faults, **more}
    return table


FAULTS = _rows(
    ("healthy, sigma .3", 0.3, [], WIDE),
    ("healthy, sigma .3", 0.8, [], WIDE),
    ("healthy", 0.9, [], {}),
    ("2 % +1 s", 0.22, _slow_runs(0.02, **ONE_SECOND), {}),
    ("2 % +1 s", 0.5, _slow_runs(0.02, **ONE_SECOND), {}),
    ("2 % x10", 0.6, _slow_runs(0.02, factor=10), {}),
    ("one x3", 0.3, _slow_workers(factor=3), {}),
    ("one x10", 0.6, _slow_workers(factor=10), {}),
    ("one +1 s", 0.6, _slow_workers(**ONE_SECOND), {}),
    ("pair x3 moves", 0.3, _slow_workers(2, factor=3, move_every_s=5), {}),
    ("pair x10 moves", 0.6, _slow_workers(2, factor=10, move_every_s=5), {}),
    ("one frozen", 0.3, FROZEN, {}),
    ("deaths", 0.3, DEATHS, {}),
    ("one fails at once", 0.3, FAILS, {}),
    ("one fails 30 %", 0.6, [{"kind": "failures", "share": 0.3}], {}),
    ("10 % of inputs x13", 0.6, [], {"service_ms": 30, "heavy_share": 0.1, "heavy_factor": 13}),
    ("sizes, 2 % +1 s", 0.3, _slow_runs(0.02, **ONE_SECOND), {"size_sigma": 0.7}),
    ("cold start, 300 ms, one x10", 0.5, _slow_workers(factor=10), {"service_ms": 300}),
    ("20 to 120 ms, one x10", 0.1, _slow_workers(factor=10), SHIFT),
    ("4 workers, 2 % x10", 0.6, _slow_runs(0.02, factor=10), {"workers": 4}),
    ("36 workers, 2 % x10", 0.6, _slow_runs(0.02, factor=10), {"workers": 36}),
    ("72 workers, 2 % x10", 0.6, _slow_runs(0.02, factor=10), {"workers": 72}),
    ("512 workers, 2 % x10", 0.6, _slow_runs(0.02, factor=10), {"workers": 512}),
    ("batch 8 flat, 2 % +1 s", 0.3, _slow_runs(0.02, **ONE_SECOND), FLAT),
    ("batch 8 half flat, one x10", 0.6, _slow_workers(factor=10), HALF_FLAT),
)

OVERLOAD = _rows(
    ("overload", 0.95, [], WIDE),
    ("overload", 1.05, [], WIDE),
    ("overload", 1.5, [], WIDE),
    ("overload", 3, [], WIDE),
    ("overload, 4 workers", 1.5, [], {**WIDE, "workers": 4}),
    ("overload, 36 workers", 1.5, [], {**WIDE, "workers": 36}),
    ("overload, batch 8 flat", 1.5, [], {**WIDE, **FLAT}),
) | {
    f"10 s at 3, then .5, {workers} workers": {
        **WIDE,
        "workers": workers,
        "phases": [{"load": 3, "seconds": 10}, {"load": 0.5}],
        "requests": 1000 * workers,
    }
    for workers in (4, 9)
}

ALL = {**FAULTS, **OVERLOAD}


def sized(scenario, requests):
    """The scenario with so many requests, of which the first that are not to count are skipped."""
    sized = {"requests": requests, **scenario}
    load = sized["phases"][0]["load"]
    if "shift_to_ms" in sized:
        sized["skip"] = requests // 6
        rate = load * sized.get("workers", 9) * 1e3 / sized["service_ms"]
        sized["shift_at_s"] = sized["skip"] / rate
    elif load >= 0.95 and len(sized["phases"]) == 1:
        sized["skip"] = requests // 6  # goodput is that of a steady state
    return sized


KINDS = (
    "none", "slow runs", "runs +s", "one slow", "one +s", "pair moves",
    "frozen", "deaths", "fails",
)  # fmt: skip


def drawn(seed):
    """A random scenario, 3 to 36 workers, and one of nine kinds of fault; the name tells all."""
    draw = random.Random(seed)
    workers = draw.randint(3, 36)
    service = round(5 * 60 ** draw.random(), 1)
    load = round(draw.uniform(0.15, 0.8), 2)
    kind = KINDS[seed % len(KINDS)]
    many = draw.randint(1, max(1, workers // 6))
    factor = draw.choice([2, 3, 5, 10, 20])
    add = draw.choice([200, 500, 1000])
    faults = {
        "none": [],
        "slow runs": _slow_runs(round(draw.uniform(0.002, 0.05), 3), factor=factor),
        "runs +s": _slow_runs(round(draw.uniform(0.002, 0.03), 3), add_ms=add),
        "one slow": _slow_workers(1, factor=factor),
        "one +s": _slow_workers(1, add_ms=add),
        "pair moves": _slow_workers(many, factor=factor, move_every_s=draw.choice([2, 5, 10])),
        "frozen": [{**FROZEN[0], "for_s": draw.choice([1, 3, 5])}],
        "deaths": [{**DEATHS[0], "first_call_s": draw.choice([0, 1, 3])}],
        "fails": [{"kind": "failures", "share": draw.choice([0.1, 0.3, 1])}],
    }[kind]
    scenario = {
        "workers": workers,
        "service_ms": service,
        "sigma": draw.choice([0.1, 0.2, 0.3]),
        "phases": [{"load": load}],
        "faults": faults,
        "seed": seed,
    }
    if draw.random() < 0.15:
        scenario |= {"heavy_share": round(draw.uniform(0.02, 0.2), 2), "heavy_factor": 8}
    name = f"{seed}: {kind}, {workers} workers, {service:g} ms, load {load:g}"
    return name, scenario
