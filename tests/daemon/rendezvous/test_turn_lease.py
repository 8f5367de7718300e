"""Credentials that are fetched, renewed in time and forgotten, on a clock that is played."""

from __future__ import annotations

import asyncio

from dreamer.daemon.links.ice import IceSettings, RoomIce
from dreamer.daemon.rendezvous.turn import TurnLease
from dreamer.protocol.errors import RemoteError
from dreamer.protocol.tracker_limits import TRACKER_BACKOFF_MAX_S, TURN_RENEW_AFTER
from dreamer.protocol.turn import TurnCredentials

URI = "turn:turn.lab:3478"


class Middle:
    """Jitter that always draws the upper end."""

    def uniform(self, _a: float, b: float) -> float:
        return b


class Tracker:
    """Answers as the script says: credentials, None (it has no TURN), or an error."""

    def __init__(self, *script) -> None:
        self.script = list(script)
        self.now = 1000.0
        self.takes_s = 0.0
        self.pauses: list[float] = []
        self.lease = TurnLease(self.ask, Middle(), lambda: self.now, self.sleep)

    async def ask(self):
        self.now += self.takes_s
        said = self.script.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        if not self.script:
            raise asyncio.CancelledError

    async def keep(self) -> None:
        """Play the script to its end."""
        try:
            await self.lease.keep()
        except asyncio.CancelledError:
            assert not self.script


def lent(number: int, ttl_s: int = 100) -> TurnCredentials:
    return TurnCredentials(f"user{number}", "password", ttl_s, (URI,))


def users(lease: TurnLease) -> list[str]:
    return [server["username"] for server in lease.servers]


async def test_credentials_are_renewed_before_they_expire() -> None:
    tracker = Tracker(lent(1), lent(2))
    assert tracker.lease.servers == ()
    await tracker.keep()
    assert tracker.pauses == [100 * TURN_RENEW_AFTER] * 2
    assert tracker.lease.servers == ({"urls": URI, "username": "user2", "credential": "password"},)


async def test_credentials_are_kept_while_the_tracker_is_away_and_forgotten_when_they_expire() -> (
    None
):
    tracker = Tracker(lent(1), *[RemoteError("it is away")] * 3)
    await tracker.keep()
    assert users(tracker.lease) == ["user1"]
    tracker.now = 1099.9
    assert users(tracker.lease) == ["user1"]
    tracker.now = 1100.0
    assert tracker.lease.servers == ()


async def test_credentials_end_as_if_they_had_been_made_when_they_were_asked_for() -> None:
    tracker = Tracker(lent(1))
    tracker.takes_s = 30.0
    await tracker.keep()
    tracker.now = 1099.9
    assert users(tracker.lease) == ["user1"]
    tracker.now = 1100.0
    assert users(tracker.lease) == []


async def test_failures_are_repeated_after_ever_longer_pauses() -> None:
    tracker = Tracker(*[RemoteError("it is away")] * 12)
    await tracker.keep()
    assert tracker.pauses == sorted(tracker.pauses)
    assert tracker.pauses[0] == 1.0
    assert tracker.pauses[-1] == TRACKER_BACKOFF_MAX_S


async def test_tracker_without_turn_is_asked_once() -> None:
    tracker = Tracker(None)
    await tracker.keep()
    assert (tracker.pauses, tracker.lease.servers) == ([], ())


async def test_tracker_that_has_no_turn_any_more_lends_nothing() -> None:
    tracker = Tracker(lent(1), None)
    await tracker.keep()
    assert tracker.lease.servers == ()


def test_own_servers_come_before_those_that_are_lent() -> None:
    own, theirs = {"urls": "stun:own"}, {"urls": URI}
    lending: list[dict[str, str]] = []
    ice = RoomIce(IceSettings((own,), relay_only=True), lambda: lending)
    assert (ice.servers, ice.relay_only) == ((own,), True)
    lending.append(theirs)
    assert ice.servers == (own, theirs)


def test_node_that_never_relays_uses_no_server_that_is_lent() -> None:
    ice = RoomIce(IceSettings(relays=False), lambda: [{"urls": URI}])
    assert ice.servers == ()
