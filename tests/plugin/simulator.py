"""Runs simulations of org.approxifer.torchserve.sim: one Java call each, figures back."""

import json
import statistics

from router_bench import plan_json

POLICIES = ("plain", "router", "oracle")

# What `approxifer serve` sets; plain TorchServe's own default is 100.
ROUTER_QUEUE = 1000


def run(java, scenario, policy, **plan):
    """The figures of one policy in one scenario (see `Tally.java`).

    Args:
        java: The package `plugin_jvm.start` returns.
        scenario: Fields of `Scenario.java`.
        policy: One of POLICIES.
        plan: Changes to the router's plan, as of `router_bench.plan_json`.
    """
    return json.loads(str(java.sim.Simulation.run(*_arguments(scenario, policy, plan))))


def trace(java, scenario, policy, **plan):
    """Arrival, first start, answer (ns) and status of each request, in order of arrival."""
    return [list(row) for row in java.sim.Simulation.trace(*_arguments(scenario, policy, plan))]


def _arguments(scenario, policy, plan):
    if policy == "router":
        scenario = {"queue": ROUTER_QUEUE, **scenario}
    deadline = scenario.get("deadline_ms", 2000)
    plan = {"late_after_ms": "auto", "deadline_ms": 10**9 if deadline is None else deadline, **plan}
    return json.dumps(scenario), policy, plan_json(**plan)


def median(runs):
    """Each figure's median over runs; None where a run has none."""
    return {
        key: None
        if any(run[key] is None for run in runs)
        else statistics.median(run[key] for run in runs)
        for key in runs[0]
    }


def quiet():
    """Keeps warnings about each failed request out of log files and of standard output."""
    import jpype

    system = jpype.JClass("java.lang.System")
    system.setOut(system.err)
    core = "org.apache.logging.log4j"
    level = jpype.JClass(f"{core}.Level").OFF
    jpype.JClass(f"{core}.core.config.Configurator").setRootLevel(level)
    jpype.JClass(f"{core}.core.config.Configurator").setLevel("org.approxifer", level)
