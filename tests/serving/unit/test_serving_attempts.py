"""What is put back before a handler tries again."""

import sys
import types
from collections import deque

import numpy as np
import pytest
from torch import nn

from approxifer_torchserve.serving.worker.attempts import HandlerState, Snapshot

BODY = {"inputs": ["a", {"b": 1}], "times": 2}


def test_json_is_copied_and_bytes_are_not():
    data = bytearray(b"image")
    snapshot = Snapshot([{"body": BODY, "image": data}, {"data": BODY}], {"a": "1"})
    first, second = snapshot.rows(), snapshot.rows()
    assert first == second == [{"body": BODY, "image": data}, {"data": BODY}]
    assert first[0]["image"] is second[0]["image"] is data
    first[0]["body"]["inputs"][1].clear()
    first[1].clear()
    snapshot.headers().clear()
    assert snapshot.rows() == second
    assert snapshot.headers() == {"a": "1"}


def test_rows_of_an_envelope_keep_their_types():
    row = {"data": {"array": np.arange(3), "part": bytearray(b"x")}}
    (copied,) = Snapshot([row], {}).rows()
    assert type(copied["data"]["part"]) is bytearray
    assert copied["data"]["array"].tolist() == [0, 1, 2]


def test_of_what_cannot_be_copied_the_outermost_is():
    odd = {"body": {"x": lambda: None}}
    snapshot = Snapshot([odd, "text", [1]], {})
    assert snapshot.rows() == [odd, "text", [1]]
    snapshot.rows()[0].clear()
    assert snapshot.rows()[0] == odd != {}


class Context:
    pass


class Handler:
    def __init__(self):
        self.items, self.ids, self.queue = [], {}, deque()
        self.old = ["kept"]
        self.vocabulary = {str(i): [] for i in range(100)}
        self.nested = {"sizes": []}
        self.model = nn.Linear(1, 1)
        self.count = 0

    def handle(self, data, context):
        raise NotImplementedError


def spoil(handler, context):
    handler.items.append(1)
    handler.ids["r1"] = 1
    handler.queue.append(1)
    handler.old.append("new")
    handler.vocabulary["new"] = []
    handler.nested["sizes"].append(3)
    context.notes.append(1)
    _module_level.append(1)
    handler.count += 1
    handler.connection = made = object()
    return made


_module_level: list[int] = []


def test_what_was_added_is_taken_out_and_what_was_assigned_stays(tmp_path):
    handler, context = Handler(), Context()
    context.notes = []
    notes = HandlerState(handler.handle, tmp_path).note(context)
    connection = spoil(handler, context)
    notes.put_back()
    notes.put_back()
    assert [handler.items, handler.ids, handler.queue, context.notes] == [[], {}, deque(), []]
    assert handler.old == ["kept"]
    assert len(handler.vocabulary) == 100
    assert handler.nested == {"sizes": []}
    assert _module_level == []
    assert handler.connection is connection
    assert handler.count == 1


def test_of_a_groups_job_nothing_stays(tmp_path):
    handler, context = Handler(), Context()
    context.notes, items = [], handler.items
    notes = HandlerState(handler.handle, tmp_path).note(context, whole=True)
    spoil(handler, context)
    handler.items = [5]
    notes.put_back()
    assert handler.items is items == []
    assert not hasattr(handler, "connection")
    assert handler.count == 0


@pytest.mark.parametrize("inside", [True, False], ids=["of the archive", "of a library"])
def test_instances_of_the_archives_own_classes_are_looked_into(tmp_path, monkeypatch, inside):
    module = types.ModuleType("tracking")
    module.__file__ = str(tmp_path / "tracking.py") if inside else "/usr/lib/tracking.py"
    monkeypatch.setitem(sys.modules, "tracking", module)
    tracker = type("Tracker", (), {"__module__": "tracking"})()
    tracker.seen = []
    handler = Handler()
    handler.tracker = tracker
    notes = HandlerState(handler.handle, tmp_path).note(None)
    tracker.seen.append(1)
    notes.put_back()
    assert tracker.seen == ([] if inside else [1])


def test_a_chain_of_own_objects_is_not_followed_for_ever(tmp_path, monkeypatch):
    module = types.ModuleType("chain")
    module.__file__ = str(tmp_path / "chain.py")
    monkeypatch.setitem(sys.modules, "chain", module)
    link = type("Link", (), {"__module__": "chain"})
    handler = Handler()
    handler.first = last = link()
    for _ in range(5000):
        last.next = link()
        last = last.next
    HandlerState(handler.handle, tmp_path).note(None)
