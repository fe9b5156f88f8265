"""What waits for a worker is let go once nobody waits for it, whether or not a worker asks."""

import pytest


def dropped(bench):
    return int(dict(bench.router.report())["dropped_jobs"])


@pytest.mark.parametrize("mode", ["systematic", "coded"])
def test_jobs_of_answered_clients_do_not_pile_up_while_all_workers_are_away(bench, mode):
    # They hold the clients' bodies: at 20 requests of 600 KB a second a heap is full in a minute.
    b = bench(mode=mode, deadline_ms=300, group_delay_ms=5)
    b.live("9000")
    clients = [b.offer() for _ in range(6)]
    b.advance(10)
    b.advance(300)
    b.guard()
    assert [client.reply[0] for client in clients] == [503] * 6
    before = dropped(b)
    assert before > 0
    assert b.poll("9000") is None
    assert dropped(b) == before, "nothing was left to drop"
