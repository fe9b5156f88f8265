"""Plans as the router reads them."""

import json


def plan_json(**changes):
    """A plan as `approxifer archive` writes it; keyword arguments change keys, policy's too."""
    policy = {
        "late_after_ms": 100,
        "hedge": True,
        "reconstruct": False,
        "group_delay_ms": 5,
        "deadline_ms": 2000,
        "prefer_exact_ms": 0,
        "max_extra_load": 0.25,
        "idempotent": True,
        "verify_wait": True,
        "on_wrong": "reexecute",
        "probe_every_s": 0,
        "quarantine": {"wrong": 2, "of": 10, "clean": 2},
    }
    plan = {
        "format": 1,
        "mode": "uncoded",
        "enabled": True,
        "code": {"name": "test", "stragglers": 1, "byzantine": 0},
        "queries": 3,
        "num_workers": 4,
        "quorum": 3,
        "copies": 1,
        "check": "none",
        "screen_quorum": None,
    }
    for key, value in changes.items():
        (policy if key in policy else plan)[key] = value
    queries, coded = plan["queries"], plan["num_workers"]
    parities = [None] * (coded - queries)
    plan = {
        "agree": 1 if plan["check"] == "none" else 2,
        "systematic": [None] * coded if plan["mode"] == "coded" else [*range(queries), *parities],
        "models": ["base"] * coded,
        **plan,
    }
    return json.dumps({**plan, "policy": policy})
