"""Which pairs of addresses are checked, and when."""

from __future__ import annotations

import pytest
from aioice import Candidate, Connection
from aioice.ice import CandidatePair

from dreamer.daemon.transport.relay_patience import prefer_straight_ways
from dreamer.protocol.limits import RELAY_PATIENCE_S

State = CandidatePair.State


def candidate(kind: str, port: int) -> Candidate:
    return Candidate("f", 1, "udp", 1, "192.0.2.1", port, kind)


class Socket:
    """The one thing that a pair needs of its protocol."""

    def __init__(self, kind: str) -> None:
        self.local_candidate = candidate(kind, 1)


class Checks:
    """An ICE connection whose checks are noted instead of sent, and its clock."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self.now = 100.0
        self.ice = Connection(ice_controlling=True)
        self.started: list[tuple[str, str]] = []
        vars(self.ice).update(check_start_task=self._start)
        prefer_straight_ways(self.ice, lambda: self.now)
        self.ice._remote_candidates_end = True
        for ours, theirs in pairs:
            self.pair(ours, theirs)

    def pair(self, ours: str, theirs: str) -> CandidatePair:
        made = CandidatePair(Socket(ours), candidate(theirs, len(self.ice._check_list)))
        made.state = State.WAITING
        self.ice._check_list.append(made)
        return made

    def _start(self, pair: CandidatePair) -> None:
        pair.state = State.IN_PROGRESS
        self.started.append((pair.local_candidate.type, pair.remote_candidate.type))

    def go_on(self, seconds: float) -> bool:
        more = True
        until = self.now + seconds
        while self.now < until:
            more = self.ice._check_periodic()
            self.now += 0.02
        return more


def test_relays_wait_while_others_may_work():
    checks = Checks(("relay", "host"), ("host", "relay"), ("host", "host"))
    assert checks.go_on(RELAY_PATIENCE_S - 0.1)
    assert checks.started == [("host", "host")]
    checks.go_on(0.2)
    assert checks.started == [("host", "host"), ("relay", "host"), ("host", "relay")]


def test_relays_do_not_wait_where_there_is_nothing_else():
    checks = Checks(("relay", "relay"), ("relay", "srflx"))
    checks.go_on(0.1)
    assert checks.started == [("relay", "relay"), ("relay", "srflx")]


def test_relays_do_not_wait_for_what_has_failed():
    checks = Checks(("host", "host"), ("relay", "host"))
    checks.go_on(0.1)
    checks.ice._check_list[0].state = State.FAILED
    checks.go_on(0.1)
    assert checks.started == [("host", "host"), ("relay", "host")]


def test_check_of_the_peer_over_a_relay_brings_no_hurry():
    checks = Checks(("host", "srflx"), ("relay", "host"))
    checks.go_on(0.1)
    checks.ice.check_start_task(checks.ice._check_list[1])
    assert checks.started == [("host", "srflx")]
    checks.go_on(RELAY_PATIENCE_S)
    assert checks.started[-1] == ("relay", "host")


@pytest.mark.parametrize("relayed", [("relay", "host"), ("host", "relay")])
def test_straight_way_that_shows_late_is_checked_first(relayed):
    checks = Checks(relayed, ("host", "host"))
    checks.go_on(0.5)
    checks.pair("host", "prflx")
    checks.go_on(0.5)
    assert checks.started == [("host", "host"), ("host", "prflx")]


def test_checks_that_are_over_stay_so():
    checks = Checks(("host", "host"), ("relay", "host"))
    checks.ice._check_list_done = True
    assert checks.go_on(0.1) is False
    assert checks.started == []
