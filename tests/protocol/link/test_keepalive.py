"""When silence is asked about, and when it is believed."""

from __future__ import annotations

import pytest

from dreamer.protocol.limits import (
    LINK_PING_INTERVAL_S,
    LINK_SILENCE_TIMEOUT_S,
    LINK_TICK_LATE_S,
    LINK_WAITING_PING_S,
    LINK_WAITING_SILENCE_S,
    LINK_WOKEN_SILENCE_S,
)
from dreamer.protocol.link.keepalive import Keepalive, Step


class Silent:
    """A peer that was heard at the start and never again; what is done about it, by the second."""

    def __init__(self, waited_on: bool) -> None:
        self.keepalive = Keepalive()
        self.waited_on = waited_on
        self.now = 0.0
        self.heard_at = 0.0
        self.pinged_at = 0.0

    def second(self) -> Step:
        self.now += 1.0
        self.keepalive.tick(self.now)
        step = self.keepalive.step(self.heard_at, self.pinged_at, self.waited_on, self.now)
        if step is Step.ASK:
            self.pinged_at = self.now
        return step

    def lost_after(self) -> float:
        began = self.now
        while self.second() is not Step.LOSE:
            assert self.now < began + 100.0, "it is never lost"
        return self.now - began


def test_a_silent_peer_is_given_up_sooner_while_it_is_waited_for() -> None:
    assert Silent(waited_on=False).lost_after() == LINK_SILENCE_TIMEOUT_S + 1.0
    assert Silent(waited_on=True).lost_after() == LINK_WAITING_SILENCE_S + 1.0


@pytest.mark.parametrize("waited_on", [False, True])
def test_nobody_is_given_up_who_was_not_asked_several_times(waited_on: bool) -> None:
    silent = Silent(waited_on)
    steps = [silent.second() for _ in range(int(LINK_SILENCE_TIMEOUT_S))]
    asked = steps[: steps.index(Step.LOSE) if Step.LOSE in steps else None].count(Step.ASK)
    assert asked >= 2


@pytest.mark.parametrize("waited_on", [False, True])
def test_a_peer_that_answers_stays_and_is_asked_now_and_then(waited_on: bool) -> None:
    peer = Silent(waited_on)
    steps = []
    for _ in range(100):
        steps.append(peer.second())
        if steps[-1] is Step.ASK:
            peer.heard_at = peer.now + 0.1
    assert Step.LOSE not in steps
    every_s = LINK_WAITING_PING_S if waited_on else LINK_PING_INTERVAL_S
    assert 100 / (every_s + 3) <= steps.count(Step.ASK) <= 100 / every_s


def test_bytes_that_flow_need_no_questions() -> None:
    peer = Silent(waited_on=True)
    asked = 0
    for _ in range(int(LINK_PING_INTERVAL_S)):
        asked += peer.second() is Step.ASK
        peer.heard_at = peer.now
    assert asked == 0


@pytest.mark.parametrize("how", ["slept", "halted"])
def test_whoever_was_away_asks_everybody_before_it_gives_anybody_up(how: str) -> None:
    silent = Silent(waited_on=False)
    silent.second()
    if how == "slept":
        # The clock stood still meanwhile.
        silent.keepalive.woke(silent.now)
    else:
        silent.now += 3600.0
    assert silent.second() is Step.ASK
    assert silent.lost_after() <= LINK_WOKEN_SILENCE_S + 1.0


def test_whoever_answers_after_a_sleep_stays() -> None:
    peer = Silent(waited_on=False)
    peer.second()
    peer.now += 3600.0
    assert peer.second() is Step.ASK
    peer.heard_at = peer.now + 0.5
    assert all(peer.second() is not Step.LOSE for _ in range(int(LINK_SILENCE_TIMEOUT_S)))


def test_a_tick_that_is_a_little_late_is_no_sleep() -> None:
    silent = Silent(waited_on=True)
    silent.second()
    silent.now += LINK_TICK_LATE_S - 1.5
    silent.second()
    assert silent.lost_after() <= LINK_WAITING_SILENCE_S - LINK_TICK_LATE_S + 3.0
