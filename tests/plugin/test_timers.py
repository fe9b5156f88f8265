"""Timers: what wakes the one thread that runs them."""

import jpype


def timer(core, bench, delay_ms, ran):
    run = jpype.JProxy("java.lang.Runnable", dict={"run": lambda: ran.append(delay_ms)})
    return bench.timers.after(int(delay_ms * 1e6), run)


def test_cancelled_timers_wake_nobody(core, bench):
    """Nearly every lateness timer is cancelled: at 1,000/s each would wake the thread."""
    b, ran = bench(), []
    cancelled = [timer(core, b, 20 + i, ran) for i in range(50)]
    timer(core, b, 200, ran)
    assert b.timers.untilNext(10**9) == 20 * 10**6
    for one in cancelled:
        one.cancel()
    assert b.timers.untilNext(10**9) == 200 * 10**6
    assert b.timers.untilNext(10**8) == 10**8
    b.advance(201)
    assert ran == [200]


def test_a_cancelled_timer_behind_a_live_one_does_not_run(core, bench):
    b, ran = bench(), []
    timer(core, b, 10, ran)
    timer(core, b, 20, ran).cancel()
    b.advance(50)
    assert ran == [10]
    assert b.timers.untilNext(7) == 7


def test_a_cancelled_timer_holds_nothing_of_its_action(core, bench):
    """Request bodies would stay in memory until the lateness of answered requests has passed."""
    b = bench()
    action = jpype.java.lang.Thread()
    held = jpype.java.lang.ref.WeakReference(action)
    one = b.timers.after(10**9, action)
    del action
    jpype.java.lang.System.gc()
    assert held.get() is not None
    one.cancel()
    jpype.java.lang.System.gc()
    assert held.get() is None
    b.advance(1001)
