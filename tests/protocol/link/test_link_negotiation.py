"""Who offers, who knocks, and what becomes of older attempts."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import LINK_OPEN_TIMEOUT_S, LINK_RETRY_MIN_S
from dreamer.protocol.link.negotiation import (
    CloseOld,
    LinkState,
    MakeAnswer,
    MakeOffer,
    Negotiation,
    NegotiationCommand,
    SendSignal,
    TakeAnswer,
    signal,
)

SMALL, LARGE = NodeId(b"\1" * 32), NodeId(b"\2" * 32)


@pytest.fixture
def small() -> Negotiation:
    return Negotiation(SMALL, LARGE, 100)


@pytest.fixture
def large() -> Negotiation:
    return Negotiation(LARGE, SMALL, 500)


def test_the_smaller_offers_and_opens(small) -> None:
    assert small.want(0.0) == [MakeOffer(101)]
    assert small.want(1.0) == []
    assert small.receive(signal("answer", 101, "sdp"), 1.0) == [TakeAnswer(101, "sdp")]
    assert small.state is LinkState.ANSWERED
    assert small.opened(101)
    assert small.state is LinkState.OPEN
    assert small.want(2.0) == []
    assert small.deadline == float("inf")


def test_the_larger_knocks_answers_and_opens(large) -> None:
    assert large.want(0.0) == [SendSignal(signal("knock", 0))]
    assert large.receive(signal("offer", 7, "sdp"), 0.0) == [MakeAnswer(7, "sdp")]
    assert large.opened(7)
    assert large.state is LinkState.OPEN


def test_a_knock_on_a_link_that_stands_begins_anew(small) -> None:
    small.want(0.0)
    small.receive(signal("answer", 101), 0.0)
    small.opened(101)
    assert small.receive(signal("knock", 0), 5.0) == [CloseOld(101), MakeOffer(102)]


def test_a_newer_offer_replaces_an_older_one(large) -> None:
    large.receive(signal("offer", 7), 0.0)
    assert large.receive(signal("offer", 8), 5.0) == [CloseOld(7), MakeAnswer(8, "")]
    assert not large.opened(7)
    assert large.opened(8)


@pytest.mark.parametrize("attempt", [100, 102])
def test_an_answer_to_another_attempt_is_ignored(small, attempt) -> None:
    small.want(0.0)
    assert small.receive(signal("answer", attempt), 0.0) == []


def test_signals_alone_make_no_more_than_an_attempt_in_a_while(small, large) -> None:
    small.want(0.0)
    large.receive(signal("offer", 7), 0.0)
    soon = LINK_RETRY_MIN_S / 2
    assert small.receive(signal("knock", 0), soon) == []
    assert large.receive(signal("offer", 8), soon) == []
    assert small.receive(signal("answer", 101), soon) == [TakeAnswer(101, "")]
    assert large.opened(7)


def test_signals_for_the_other_role_are_ignored(small, large) -> None:
    assert small.receive(signal("offer", 1), 0.0) == []
    assert large.receive(signal("knock", 0), 0.0) == []
    assert large.receive(signal("answer", 500), 0.0) == []
    assert small.receive(signal("answer", 100), 0.0) == [], "nothing was offered"


def test_an_attempt_that_takes_too_long_fails(small, large) -> None:
    small.want(0.0)
    large.want(0.0)
    assert small.tick(LINK_OPEN_TIMEOUT_S - 0.1) == []
    assert small.tick(LINK_OPEN_TIMEOUT_S) == [CloseOld(101)]
    assert large.tick(LINK_OPEN_TIMEOUT_S) == [], "a knock has nothing to close"
    assert (small.state, large.state) == (LinkState.IDLE, LinkState.IDLE)
    assert small.want(20.0) == [MakeOffer(102)]


def test_the_failure_of_an_older_attempt_does_not_hurt_the_newer(small) -> None:
    small.want(0.0)
    small.receive(signal("knock", 0), 5.0)
    assert small.failed(101) == []
    assert small.state is LinkState.OFFERED
    assert small.failed(102) == [CloseOld(102)]
    assert not small.opened(102), "it has failed"


class Couple:
    """Both ends, the signals between them, and the connection that comes of an answer."""

    ids = (SMALL, LARGE)

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.now = 0.0
        self.ends = [self.fresh(0), self.fresh(1)]
        self.wire: deque[tuple[int, Json]] = deque()
        self.answered: int | None = None

    def fresh(self, side: int) -> Negotiation:
        return Negotiation(self.ids[side], self.ids[1 - side], self.rng.randrange(1000))

    def carry_out(self, side: int, commands: list[NegotiationCommand]) -> None:
        for command in commands:
            match command:
                case SendSignal(body):
                    self.wire.append((1 - side, body))
                case MakeOffer(attempt):
                    self.wire.append((1 - side, signal("offer", attempt)))
                case MakeAnswer(attempt):
                    self.answered = attempt
                    self.wire.append((1 - side, signal("answer", attempt)))
                case TakeAnswer(attempt) if self.answered == attempt:
                    # It comes up only where both ends still mean the same attempt.
                    assert all(end.opened(attempt) for end in self.ends)

    def want(self, side: int) -> None:
        self.carry_out(side, self.ends[side].want(self.now))

    def deliver(self, lossy: bool) -> None:
        to, body = self.wire.popleft()
        if not lossy or self.rng.random() > 0.2:
            self.carry_out(to, self.ends[to].receive(body, self.now))

    def something_happens(self) -> None:
        self.now += self.rng.random()
        side, chance = self.rng.randrange(2), self.rng.random()
        if chance < 0.1:
            # It restarts: the other sees its connection close, if there was one.
            self.ends[side], self.answered = self.fresh(side), None
            self.ends[1 - side].failed(self.ends[1 - side].attempt)
        elif chance < 0.5:
            self.want(side)
        elif self.wire:
            self.deliver(lossy=True)


@pytest.mark.parametrize("seed", range(40))
def test_two_that_restart_lose_signals_and_call_at_any_time_meet_in_the_end(seed: int) -> None:
    rng = Random(seed)
    couple = Couple(rng)
    for _ in range(rng.randrange(60)):
        couple.something_happens()
    couple.wire.clear()
    couple.now += LINK_OPEN_TIMEOUT_S
    for side in (0, 1):
        couple.carry_out(side, couple.ends[side].tick(couple.now))
    for side in (0, 1):
        couple.want(side)
    while couple.wire:
        couple.deliver(lossy=False)
    assert [end.state for end in couple.ends] == [LinkState.OPEN] * 2
    assert couple.ends[0].attempt == couple.ends[1].attempt


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "hello", "attempt": 1, "sdp": ""},
        {"kind": "offer", "attempt": 1.0, "sdp": ""},
        {"kind": "offer", "attempt": False, "sdp": ""},
        {"kind": "offer", "attempt": 1},
        {"kind": "offer", "attempt": 1, "sdp": 5},
        {"kind": "offer", "attempt": 1, "sdp": "x" * 65_537},
        {"kind": [], "attempt": 1, "sdp": ""},
    ],
)
def test_a_signal_of_no_known_form_is_the_peers_fault(small, body) -> None:
    with pytest.raises(RemoteProtocolError):
        small.receive(body, 0.0)


@pytest.mark.parametrize("sdp", ["\ud800", "v=0 é"])
def test_a_description_that_is_not_ascii_is_refused(sdp: str) -> None:
    larger = Negotiation(NodeId(b"b" * 32), NodeId(b"a" * 32), 0)
    with pytest.raises(RemoteProtocolError):
        larger.receive(signal("offer", 1, sdp), 0.0)


def test_knocks_in_quick_succession_make_one_attempt() -> None:
    smaller = Negotiation(NodeId(b"a" * 32), NodeId(b"b" * 32), 0)
    made = [smaller.receive(signal("knock", 0), n / 100) for n in range(50)]
    assert [one for one in made if one] == [[MakeOffer(1)]]
    assert smaller.receive(signal("knock", 0), LINK_RETRY_MIN_S + 0.1)[-1] == MakeOffer(2)
