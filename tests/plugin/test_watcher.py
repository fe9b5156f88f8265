"""The plugin's one thread goes on whatever is thrown in it."""

import time

import jpype
import pytest


@pytest.fixture
def watcher(jvm):
    """A watcher of the test's own, whose thread runs as long as the JVM."""
    kind = jpype.JClass("java.lang.Class").forName("org.approxifer.torchserve.ts.Watcher")
    make = kind.getDeclaredConstructor()
    make.setAccessible(True)
    made = make.newInstance()
    field = kind.getDeclaredField("timers")
    field.setAccessible(True)
    thread = jpype.java.lang.Thread(made)
    thread.setDaemon(True)
    thread.start()
    return thread, field.get(made)


@pytest.mark.parametrize(
    "thrown",
    ["java.lang.AssertionError", "java.lang.StackOverflowError", "java.lang.OutOfMemoryError"],
)
def test_it_survives_any_throwable(watcher, thrown):
    thread, timers = watcher
    ran = []

    def throw():
        ran.append(thrown)
        raise jpype.JClass(thrown)()

    for action in (throw, lambda: ran.append("next")):
        timers.after(1_000_000, jpype.JProxy("java.lang.Runnable", dict={"run": action}))
    end = time.monotonic() + 10
    while "next" not in ran and time.monotonic() < end:
        time.sleep(0.01)
    assert ran == [thrown, "next"]
    assert thread.isAlive()
