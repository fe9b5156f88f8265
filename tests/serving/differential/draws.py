"""Draws cases: handlers, and what they are sent."""

from dataclasses import replace

from cases import CARRIERS, TRAITS, Burst, Case, Group, Query, Spec
from forms import behaviour
from hypothesis import strategies as st

ASKS = {
    "returns": tuple(behaviour.RETURNS),
    "answers": ("none", "two"),
    "status": tuple(behaviour.STATUSES),
    "header": tuple(behaviour.HEADERS),
    "fails": tuple(
        f"{step}:{error}"
        for step in ("preprocess", "inference", "postprocess")
        for error in behaviour.ERRORS
    ),
}
HEADERS = (("x-name", "müll"), ("x-name", "two"), ("X-Name", "upper"), ("accept", "text/html"))

URLS = ("explanations", "describe")


def rarely(plain, others: list):
    """The plain value in half of the draws, so that a case holds a few kinds and not all."""
    return st.sampled_from([plain] * max(1, len(others)) + others)


@st.composite
def specs(draw) -> Spec:
    traits = {key: draw(rarely(v[0], list(v))) for key, v in TRAITS.items()}
    form = traits["form"] = draw(rarely("steps", list(TRAITS["form"])))
    if form == "steps" and traits["catches"] in ("all rows", "first row"):
        traits["catches"] = "nothing"  # TorchServe's own handle catches nothing
    if form != "steps":
        traits["code"] = "systematic"
    return Spec(**traits)


NUMBERS = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=3).map(tuple)


@st.composite
def queries(draw, framed: bool, url: str | None = None, rows: str = "none") -> Query:
    # One thing or two, or nothing: a request that asks for everything mostly fails early.
    possible = ASKS
    wanted = draw(st.lists(st.sampled_from([*possible, "x", "scale"]), max_size=2, unique=True))
    asks = {key: draw(st.sampled_from(possible[key])) for key in wanted if key in possible}
    if "answers" in wanted:
        asks["answers"] = rows
    if "x" in wanted:
        asks["x"] = draw(NUMBERS if "fails" in asks else NUMBERS | st.just(("no number",)))
    if "scale" in wanted:
        asks["scale"] = draw(st.sampled_from([0.5, 3.0]))
    headers = draw(st.lists(st.sampled_from(HEADERS), max_size=1))
    return Query(
        tuple(asks.items()),
        draw(rarely("json", list(CARRIERS))),
        tuple(headers),
        url or draw(st.sampled_from([*["predictions"] * 8, *URLS])),
        framed,
        draw(st.booleans()),
    )


@st.composite
def groups(draw) -> Group:
    member = st.just(Query()) | queries(framed=True)
    members = st.lists(member, min_size=1, max_size=2)
    kind = draw(st.sampled_from(["parity", "encode"]))
    return Group(kind, tuple(draw(members)), draw(st.booleans()))


@st.composite
def cases(draw, frames: str) -> Case:
    """A case whose requests have ``frames``: all, none, or some of them."""
    spec = draw(specs())
    outside = None
    if frames == "some":
        spec = replace(spec, batch_size=8)  # a batch without any job is another test's
        # The plugin sends descriptions without frames, and before it attached nothing else came.
        outside = draw(st.sampled_from(["predictions", "describe"]))
    # Not both: one answer too few and one too many are a shifted batch, which nobody can tell.
    rows = draw(st.sampled_from(ASKS["answers"]))
    bursts = []
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.sampled_from([1, 2, 3, 4, 9]))
        framed = [frames == "all" or (frames == "some" and i % 2 == 0) for i in range(size)]
        burst = tuple(draw(queries(f, None if f else outside, rows)) for f in framed)
        beside: tuple[Group, ...] = ()
        if frames != "none" and spec.form == "steps" and not spec.mixing:
            beside = (draw(groups()),) if draw(st.booleans()) else ()
        bursts.append(Burst(burst, beside))
    return Case(spec, tuple(bursts))
