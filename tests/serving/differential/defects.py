"""What the differential test has found: cases of each defect, kept so that it stays away."""

from dataclasses import dataclass

from cases import Case, Group, Query, ask, case

GOOD, BAD, LAST = ask(x=(1.0, 1.0)), ask(fails="preprocess:ValueError"), ask(x=(3.0, 1.0))
NAMED = Query(headers=(("x-name", "müll"),))

PAIR = (ask(x=(7.0, 1.0)), ask(x=(8.0, 1.0)))


@dataclass(frozen=True)
class Defect:
    """Cases of one defect, and what was wrong."""

    was: str
    cases: dict[str, Case]


def _asked(key: str, *values: str) -> dict[str, Case]:
    """Cases of requests that ask for something: its client between two others."""
    return {value: case([GOOD, ask(**{key: value}), LAST], [GOOD]) for value in values}


def _beside(kind: str, **traits: object) -> Case:
    return case([GOOD], [LAST], groups=(Group(kind, PAIR),), **traits)


DEFECTS = {
    "batch size": Defect(
        "wrapping makes a batch size of 8 where none is set (A01)",
        {
            "option of the first row": case(
                [ask(scale=0.5), ask(scale=3.0)], batch_size=None, options="of the first"
            ),
            "rows counted": case([GOOD, LAST], batch_size=None, mixes="count"),
        },
    ),
    "error for all rows": Defect(
        "an error status for all rows is taken for everybody's answer (A02)",
        {
            "handle": case([GOOD, BAD, LAST], form="handle", catches="all rows"),
            "function": case([GOOD, BAD, LAST], form="function", catches="all rows"),
        },
    ),
    "error for the first row": Defect(
        "set_response_status() without idx gives the first client another's error (as A02)",
        {"class": case([GOOD, BAD, LAST], form="class", catches="first row")},
    ),
    "changed input": Defect(
        "a second try gets the input as the first one left it (A03)",
        {
            "popped": case([GOOD, BAD, LAST], input="popped"),
            "popped in handle": case([GOOD, BAD, LAST], input="popped", form="handle"),
            "rows cleared": case([GOOD, BAD, LAST], input="cleared"),
            "list grown": case([GOOD, BAD, LAST], input="grown", form="function"),
            "header taken": case([NAMED, BAD, LAST], input="headers"),
        },
    ),
    "state of a failed try": Defect(
        "what a failed try left in the handler is found by the next (A14)",
        {
            "appended": case([GOOD, BAD, LAST], state="appended"),
            "queued": case([GOOD, BAD, LAST], [GOOD], state="queued", form="handle"),
            "of a callable": case([GOOD, BAD, LAST], state="appended", form="callable"),
        },
    ),
    "state of a group's job": Defect(
        "preprocess for a group's job leaves its state to the next client (A14)",
        {
            "parity": _beside("parity", state="appended"),
            "encode": _beside("encode", state="queued", code="classic"),
        },
    ),
    "headers of a failed try": Defect(
        "a second try finds the response headers and statuses of the first",
        {
            "steps": case([GOOD, BAD, LAST], sets="counted"),
            "handle": case([GOOD, BAD, LAST], sets="counted", form="handle"),
        },
    ),
    "half a surrogate pair": Defect(
        "text that is no Unicode fails the whole batch (A07)", _asked("returns", "surrogate")
    ),
    "headers that cannot be sent": Defect(
        "a response header that cannot be sent ends the worker, or leaves its client waiting",
        _asked(
            "header",
            *("number", "none", "bytes", "line break", "surrogate", "name number"),
            *("name line break", "type number", "type umlaut"),
        ),
    ),
    "statuses that cannot be sent": Defect(
        "a status or phrase that cannot be sent ends the worker, or garbles the response",
        _asked("status", "text", "phrase number", "phrase umlaut", "phrase line break"),
    ),
    "faults of the machine": Defect(
        "a fault of the machine in preprocess is called the client's, and names hosts (A20)",
        _asked(
            "fails", *(f"preprocess:{e}" for e in ["refused", "disk", "timeout", "missing", "http"])
        ),
    ),
    "errors that cannot be said": Defect(
        "an exception whose __str__ raises fails the whole batch",
        _asked("fails", *(f"{s}:unprintable" for s in ("preprocess", "inference", "postprocess"))),
    ),
    "tensors of a joined batch": Defect(
        "an answer that is a view carries other clients' coded query, joined to the same forward",
        {"parity": case([ask(returns="view")], groups=(Group("parity", PAIR),))},
    ),
    "state used up in a joined batch": Defect(
        "inference that takes per-row state fails because a coded query shares its forward",
        {"parity": _beside("parity", scales="consumed")},
    ),
}
