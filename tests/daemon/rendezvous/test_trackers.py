"""All trackers of a room at once: none of them holds up what another can do."""

from __future__ import annotations

import asyncio

import pytest

from dreamer.daemon.rendezvous import trackers as module
from dreamer.daemon.rendezvous.signals import Signals
from dreamer.daemon.rendezvous.trackers import Trackers
from dreamer.daemon.room.presence import Presence
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import ForbiddenError, RemoteError
from dreamer.protocol.ids import InfoHash, NodeId
from dreamer.protocol.limits import CROWD_COMMITTEE, SIGNALS_REMEMBERED
from dreamer.protocol.swarm.committee import committee
from dreamer.protocol.swarm.holders import Found

DEADLINE_S = 10.0
ANN, BOB, EVE = (NodeId(letter * 32) for letter in (b"a", b"b", b"e"))
SWARM = InfoHash(b"s" * 20)
KNOCK = {"kind": "knock"}


class PlayedTracker:
    """A session of which the test says what comes of a call: an answer, an error, or nothing."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connected = True
        self.last_error = None
        self.nodes: list[NodeId] | Exception | None = []
        self.whole: list[NodeId] = []
        self.committee: tuple[NodeId, ...] | None = None
        self.login: Exception | str | None = None
        self.signals: list[tuple[NodeId, dict]] = []
        self.signal_fails: Exception | None = None
        self.cancelled = asyncio.Event()

    async def wait_connected(self, timeout_s: float) -> None:
        if self.login is None:
            await self._nothing()
        if isinstance(self.login, Exception):
            raise self.login

    async def seek(self, swarm) -> Found:
        if self.nodes is None:
            await self._nothing()
        if isinstance(self.nodes, Exception):
            raise self.nodes
        return Found(tuple(self.nodes), tuple(self.whole), self.committee)

    async def signal(self, peer, body) -> None:
        if self.signal_fails:
            raise self.signal_fails
        self.signals.append((peer, body))

    async def _nothing(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


@pytest.fixture
def played():
    return [PlayedTracker(f"http://{name}") for name in ("one", "two", "three")]


@pytest.fixture
def trackers(played):
    return Trackers("team", played)


@pytest.fixture(autouse=True)
async def deadline():
    async with asyncio.timeout(DEADLINE_S):
        yield


async def test_login_at_any_tracker_is_enough_and_the_others_are_not_waited_for(played, trackers):
    played[2].login = "welcome"
    await trackers.wait_connected()
    assert played[0].cancelled.is_set()
    assert played[1].cancelled.is_set()


async def test_refusal_is_told_rather_than_that_another_is_away(played, trackers):
    played[0].login = RemoteError("it is away")
    played[1].login = ForbiddenError("this invitation has been used")
    played[2].login = RemoteError("it is away, too")
    with pytest.raises(ForbiddenError, match="has been used"):
        await trackers.wait_connected()


async def test_room_without_trackers_says_so():
    with pytest.raises(RemoteError, match="no tracker"):
        await Trackers("team", []).wait_connected()
    assert await Trackers("team", []).seek(SWARM) == Found()
    assert not Trackers("team", []).all_connected


async def test_holders_are_those_that_any_tracker_names(played, trackers):
    played[0].nodes = [ANN, BOB]
    played[1].nodes = RemoteError("it doesn't answer")
    played[2].nodes = [BOB, EVE]
    assert sorted((await trackers.seek(SWARM)).nodes) == [ANN, BOB, EVE]


async def test_committees_of_several_trackers_make_the_one_that_all_would_name(played, trackers):
    many = [NodeId(bytes([number]) * 32) for number in range(3 * CROWD_COMMITTEE)]
    for one, its in zip(played, (many[::3], many[1::3], many[2::3]), strict=True):
        one.nodes, one.committee = its[:2], tuple(committee(SWARM, its))
    found = await trackers.seek(SWARM)
    assert found.committee == tuple(committee(SWARM, many))


async def test_one_that_any_tracker_says_has_it_all_is_named_as_such(played, trackers):
    played[0].nodes, played[1].nodes, played[1].whole = [ANN, BOB], [EVE, ANN], [EVE]
    found = await trackers.seek(SWARM)
    assert found == Found((EVE, ANN, BOB), (EVE,))


async def test_tracker_that_hangs_delays_the_answer_of_another_only_a_little(
    played, trackers, monkeypatch
):
    monkeypatch.setattr(module, "TRACKER_SEEK_OTHERS_S", 0.01)
    played[0].nodes, played[1].nodes, played[2].nodes = None, RemoteError("away"), [ANN]
    assert (await trackers.seek(SWARM)).nodes == (ANN,)
    assert played[0].cancelled.is_set()


async def test_nobody_asks_a_tracker_that_is_away(played, trackers):
    played[0].nodes, played[0].connected = None, False
    played[1].nodes = [ANN]
    assert (await trackers.seek(SWARM)).nodes == (ANN,)
    assert not trackers.all_connected
    assert [one.connected for one in trackers.infos()] == [False, True, True]


async def test_question_that_is_given_up_is_given_up_everywhere(played, trackers):
    for one in played:
        one.nodes = None
    asking = asyncio.create_task(trackers.seek(SWARM))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    assert all(one.cancelled.is_set() for one in played)


# Signals


class Room:
    """Signals at three trackers, with neighbours that know some."""

    def __init__(self, played) -> None:
        self.played = played
        self.presence = Presence()
        self.neighbours_know: list[NodeId] = []
        self.passed_on: list[NodeId] = []
        self.given_up: list[NodeId] = []
        self.tasks = TaskSet()
        self.signals = Signals(
            played, self.presence, self.pass_on, self.given_up.append, self.tasks
        )

    def pass_on(self, peer, body) -> bool:
        if peer in self.neighbours_know:
            self.passed_on.append(peer)
        return peer in self.neighbours_know

    async def settle(self) -> None:
        while self.tasks._tasks:
            await asyncio.gather(*self.tasks._tasks)

    async def send(self, peer) -> None:
        self.signals.send(peer, KNOCK)
        await self.settle()

    async def unreachable(self, number: int, peer) -> None:
        self.signals.unreachable(self.played[number].url, peer)
        await self.settle()

    def counts(self) -> list[int]:
        return [len(one.signals) for one in self.played]


@pytest.fixture
def room(played):
    return Room(played)


async def test_signal_goes_to_a_tracker_where_the_member_is(room):
    room.presence.arrived(room.played[2].url, ANN, {})
    await room.send(ANN)
    assert room.counts() == [0, 0, 1]


async def test_member_that_a_tracker_does_not_reach_is_tried_at_the_next_and_then_by_neighbours(
    room,
):
    room.presence.arrived(room.played[1].url, ANN, {})
    room.neighbours_know = [ANN]
    await room.send(ANN)
    for number, counts in ((1, [1, 1, 0]), (0, [1, 1, 1])):
        await room.unreachable(number, ANN)
        assert room.counts() == counts
    assert room.passed_on == []
    await room.unreachable(2, ANN)
    assert room.passed_on == [ANN]
    assert room.given_up == []


async def test_tracker_that_swallows_signals_does_not_get_the_next_one_too(room):
    for number in (1, 2):
        room.presence.arrived(room.played[number].url, ANN, {})
    for counts in ([0, 1, 0], [0, 1, 1], [0, 2, 1]):
        await room.send(ANN)
        assert room.counts() == counts


async def test_attempt_fails_only_when_there_is_no_way_left(room):
    await room.send(ANN)
    for number in (0, 1):
        await room.unreachable(number, ANN)
    assert room.given_up == []
    await room.unreachable(2, ANN)
    assert room.given_up == [ANN]


async def test_connection_that_breaks_while_signalling_leads_to_the_next_tracker(room):
    room.played[0].signal_fails = RemoteError("it closed the connection")
    await room.send(ANN)
    assert room.counts() == [0, 1, 0]


async def test_what_is_said_of_an_earlier_signal_does_not_end_the_present_one(room):
    room.presence.arrived(room.played[0].url, ANN, {})
    await room.send(ANN)
    room.presence.left(room.played[0].url, ANN)
    room.presence.arrived(room.played[1].url, ANN, {})
    await room.send(ANN)
    await room.unreachable(0, ANN)
    await room.unreachable(0, BOB)
    assert room.counts() == [1, 1, 0]
    assert room.given_up == []


async def test_without_trackers_signals_go_by_neighbours_at_once(room):
    for one in room.played:
        one.connected = False
    room.neighbours_know = [ANN]
    await room.send(ANN)
    await room.send(BOB)
    assert (room.passed_on, room.given_up) == ([ANN], [BOB])


async def test_signals_that_are_remembered_are_bounded(room):
    for number in range(SIGNALS_REMEMBERED + 50):
        await room.send(NodeId(number.to_bytes(32, "big")))
    assert len(room.signals._sent) == SIGNALS_REMEMBERED
