"""Workers that TorchServe drops from its lists without stopping them are ended, no others."""

from pathlib import Path

import jpype
import pytest


@pytest.fixture(scope="module")
def configured(jvm, tmp_path_factory):
    """TorchServe's classes ask for its configuration when they are loaded."""
    import ts

    fuzz = jpype.JClass("org.approxifer.torchserve.ts.PollBatchFuzz")
    home = Path(ts.__file__).resolve().parents[1]
    fuzz.configure(str(home), str(tmp_path_factory.mktemp("logs")))


@pytest.fixture
def reflect(configured):
    """Reflection on TorchServe's classes and the plugin's own package."""

    class Reflect:
        unsafe_type = jpype.JClass("java.lang.Class").forName("sun.misc.Unsafe")
        worker_type = jpype.JClass("org.pytorch.serve.wlm.WorkerThread").class_
        lost_type = jpype.JClass("java.lang.Class").forName(
            "org.approxifer.torchserve.ts.LostWorkers"
        )

        def field(self, owner, name):
            field = owner.getDeclaredField(name)
            field.setAccessible(True)
            return field

        def worker(self):
            """A worker thread that was never constructed: what it says of itself is its fields."""
            unsafe = self.field(self.unsafe_type, "theUnsafe").get(None)
            worker = unsafe.allocateInstance(self.worker_type)
            flag = jpype.JClass("java.util.concurrent.atomic.AtomicBoolean")(True)
            self.field(self.worker_type, "running").set(worker, flag)
            return worker

        def running(self, worker):
            return bool(self.field(self.worker_type, "running").get(worker).get())

        def scaled_down(self, worker):
            state = jpype.JClass("org.pytorch.serve.wlm.WorkerState").WORKER_SCALED_DOWN
            self.field(self.worker_type, "state").set(worker, state)

        def call(self, lost, name, *given):
            (method,) = (m for m in self.lost_type.getDeclaredMethods() if m.getName() == name)
            method.setAccessible(True)
            return method.invoke(lost, *given)

        def lost(self):
            (made,) = self.lost_type.getDeclaredConstructors()
            made.setAccessible(True)
            return made.newInstance("m version 1.0")

    return Reflect()


@pytest.fixture
def look(reflect):
    """Lets one instance see who is listed at so many seconds; tells whether it has nobody left."""
    lost = reflect.lost()

    def look(seconds, *listed):
        threads = jpype.java.util.ArrayList()
        for worker in listed:
            threads.add(worker)
        reflect.call(lost, "update", threads, jpype.java.lang.Long(int(seconds * 1e9)))
        return bool(reflect.call(lost, "none"))

    return look


def test_a_worker_that_is_dropped_without_being_stopped_is_ended_after_a_while(reflect, look):
    kept, dropped = reflect.worker(), reflect.worker()
    look(1, kept, dropped)
    look(2.9, kept)
    assert reflect.running(dropped), "TorchServe may be about to stop it"
    look(3.1, kept)
    assert not reflect.running(dropped)
    assert reflect.running(kept)
    assert not look(60, kept)
    assert look(60.1) is False
    assert look(63) is True
    assert not reflect.running(kept)


def test_a_worker_that_torchserve_stopped_is_forgotten_at_once(reflect, look):
    worker = reflect.worker()
    look(1, worker)
    reflect.scaled_down(worker)
    assert look(1.05) is True
    look(10)
    assert reflect.running(worker), "shutdown() is TorchServe's to call"


def test_a_list_that_is_changed_while_it_is_copied_may_hold_nothing(reflect, look):
    assert look(1, None) is True
