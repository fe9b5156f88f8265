"""Jobs of a group: what a handler keeps of them, and what their members are answered."""

import copy

import pytest
from cases import CARRIERS, Group, Query, Spec, ask
from world import Archives, Outcome, Twin, Wrapped

MEMBERS = (ask(x=(7.0, 1.0)), ask(x=(8.0, 1.0)))
BROKEN = (MEMBERS[0], ask(fails="preprocess:ValueError"))
NAME = (("x-name", "müll"), ("accept", "text/html"))
KEPT = ("items", "by_id", "scales", "asked")


def kept(wrapped: Wrapped) -> dict:
    return copy.deepcopy({name: getattr(wrapped.user, name) for name in KEPT})


@pytest.mark.parametrize("members", [MEMBERS, BROKEN], ids=["good", "one broken"])
@pytest.mark.parametrize("state", ["new", "appended", "queued", "by id"])
@pytest.mark.parametrize(
    ("kind", "code"), [("parity", "systematic"), ("encode", "systematic"), ("encode", "classic")]
)
def test_preprocess_for_a_group_leaves_nothing_behind(archives, kind, code, state, members):
    wrapped = Wrapped(archives, Spec(code=code, state=state))
    before = kept(wrapped)
    wrapped.ask([], (Group(kind, members),))
    assert kept(wrapped) == before


def predictions(wrapped: Wrapped, members: tuple[Query, ...]) -> dict[str, bytes]:
    """The members' predictions, from jobs that ask for nothing but their numbers."""
    found = {}
    for i, member in enumerate(members):
        numbers = tuple(a for a in member.asks if a[0] == "x")
        query = Query(numbers, member.carrier, member.headers, want=True)
        ((_, sections),) = wrapped.worker.reply(wrapped.build(f"p{i}", query))
        found[f"p{i}"] = sections["prediction"]
    return found


def decoded(archives: Archives, spec: Spec, members: tuple[Query, ...]) -> list[Outcome]:
    """What each member of a group is sent that is decoded from all predictions, so exactly."""
    wrapped = Wrapped(archives, spec)
    blobs = predictions(wrapped, members)
    ids = [f"r{i}" for i in range(len(members))]
    options = {"available": list(range(len(members))), "requests": ids}
    job = wrapped.group("d", Group("decode", members), blobs, **options)
    ((header, sections),) = wrapped.worker.reply(job)
    assert "answers" in header, header
    return [_outcome(header["answers"][str(i)], sections) for i in range(len(members))]


def _outcome(answer: dict, sections: dict[str, bytes]) -> Outcome:
    if "error" in answer:
        return Outcome("failure", answer["error"]["status"], answer["error"]["message"])
    given = (answer["status"], answer["phrase"], answer["contentType"], answer["headers"])
    return Outcome("answer", *given, sections[answer["section"]])


def alone(archives: Archives, spec: Spec, members: tuple[Query, ...]) -> list[Outcome]:
    twin, found = Twin(archives, spec), []
    for i, member in enumerate(members):
        twin.start()
        found += twin.ask([(f"r{i}", member)])
    return found


@pytest.mark.parametrize("state", ["new", "appended", "queued", "by id", "on context"])
@pytest.mark.parametrize("carrier", CARRIERS)
def test_decoded_members_are_answered_as_by_torchserve_alone(archives, carrier, state):
    members = (
        Query((("x", (7.0, 1.0)), ("status", "teapot"), ("header", "umlaut")), carrier, NAME),
        Query((("x", (8.0, 1.0)), ("header", "type")), carrier),
    )
    spec = Spec(state=state)
    got, wanted = decoded(archives, spec, members), alone(archives, spec, members)
    assert [o.seen for o in got] == [o.seen for o in wanted]


@pytest.mark.parametrize(
    "asked",
    [
        ("returns", "object"),
        ("fails", "postprocess:ValueError"),
        ("returns", "surrogate"),
        *(("header", value) for value in ("number", "line break", "name number")),
        ("status", "text"),
    ],
    ids=": ".join,
)
def test_a_member_that_cannot_be_answered_fails_alone(archives, asked):
    members = (MEMBERS[0], Query((*MEMBERS[1].asks, asked)))
    got = decoded(archives, Spec(), members)
    assert got[0].seen == alone(archives, Spec(), members[:1])[0].seen
    assert got[1].kind == "failure"
    assert 500 <= got[1].status < 600


@pytest.mark.parametrize("state", ["queued", "appended"])
def test_a_member_that_fails_leaves_nothing_behind(archives, state):
    wrapped = Wrapped(archives, Spec(state=state))
    before = kept(wrapped)["items"]
    blobs = predictions(wrapped, MEMBERS)
    members = (MEMBERS[0], ask(fails="postprocess:ValueError"))
    job = wrapped.group("d", Group("decode", members), blobs, available=[0, 1])
    ((header, _),) = wrapped.worker.reply(job)
    assert "error" in header["answers"]["1"]
    assert kept(wrapped)["items"] == before
