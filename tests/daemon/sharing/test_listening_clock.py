"""Time that counts only while somebody listens."""

from __future__ import annotations

from dreamer.daemon.sharing.listening_clock import ListeningClock
from dreamer.protocol.limits import PULL_HALT_NOTICED_S


def test_time_passes_while_it_is_looked_at() -> None:
    now = [100.0]
    clock = ListeningClock(lambda: now[0])
    for _ in range(100):
        now[0] += 0.1
        clock()
    assert 109.9 < clock() < 110.1


def test_an_hour_that_nobody_looked_did_not_pass() -> None:
    now = [100.0]
    clock = ListeningClock(lambda: now[0])
    now[0] += 1.0
    assert clock() == 101.0
    now[0] += 3600.0
    assert clock() == 101.0
    now[0] += PULL_HALT_NOTICED_S / 2
    assert clock() == 101.0 + PULL_HALT_NOTICED_S / 2
