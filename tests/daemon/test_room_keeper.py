"""Rooms made, joined, left and found by name, over sessions that only pretend to run."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.origin.faults import OriginRefusedError, OriginUnsignedError
from dreamer.daemon.room.book import RoomBook
from dreamer.daemon.room.keeper import RoomKeeper
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import (
    AmbiguousError,
    ForbiddenError,
    InputError,
    NoMatchError,
    RemoteError,
)
from dreamer.protocol.limits import ROOM_RESTART_MAX_S
from dreamer.protocol.rooms.card import RegistryPlace

TRACKER = "http://127.0.0.1:1"
DEADLINE_S = 10.0


class Session:
    """A room session; ``refusal`` is what the tracker says to it."""

    refusal: Exception | None = None
    unproven: Exception | None = None

    def __init__(self, membership) -> None:
        self.membership = membership
        self.card = membership.card
        self.connected = True
        self.closed = False
        self.ends_with: Exception | None = None
        self.begun = 0
        self.breaks = asyncio.Event()
        self.models = {}
        self.trackers = SimpleNamespace(infos=tuple)
        self.links = SimpleNamespace(owns=lambda number: number == 7, transport_event=print)

    async def run(self) -> None:
        self.begun += 1
        try:
            await self.breaks.wait()
        finally:
            self.breaks.clear()
            if self.ends_with:
                raise self.ends_with

    async def wait_connected(self) -> None:
        if self.refusal:
            raise self.refusal

    async def prove_registry(self) -> None:
        if self.unproven:
            raise self.unproven

    async def resolve(self, ref):
        if ref not in self.models:
            raise NoMatchError(f"{ref} is nothing here")
        if isinstance(self.models[ref], Exception):
            raise self.models[ref]
        return self.models[ref]

    def close(self) -> None:
        self.closed = True


class Nodes:
    """Nodes with a home each."""

    def __init__(self, root) -> None:
        self.root = root
        self.keepers = []
        self.pauses: list[float] = []
        self.origin = None
        self.forgotten = []

    def node(self, name: str) -> RoomKeeper:
        home = self.root / name
        book = RoomBook(home, NodeIdentity.load_or_create(home))
        origins = SimpleNamespace(of=lambda card: self.origin, forget=self.forgotten.append)
        self.keepers.append(RoomKeeper(book, Session, origins, TaskSet(), self._sleep))
        return self.keepers[-1]

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
async def nodes(tmp_path):
    made = Nodes(tmp_path)
    yield made
    for keeper in made.keepers:
        await keeper.close()


async def made(keeper, name="team"):
    return await keeper.create(name, [TRACKER], None, None)


async def test_a_room_is_made_joined_and_found(nodes) -> None:
    a, b = nodes.node("a"), nodes.node("b")
    info = await made(a)
    joined = await b.join(a.invite("team", ["member"], 60.0, 1))
    assert joined.room_id == info.room_id
    assert (info.roles, joined.roles) == (("member", "publisher", "worker", "admin"), ("member",))
    assert b.get(None) is b.get("team") is b.get(info.room_id)
    assert [info.name for info in b.infos()] == ["team"]


async def test_a_room_without_a_tracker_is_asked_for_by_name(nodes) -> None:
    a, b = nodes.node("a"), nodes.node("b")
    with pytest.raises(InputError, match="--no-tracker"):
        await a.create("cave", [], None, None)
    with pytest.raises(InputError, match="leave out"):
        await a.create("cave", [TRACKER], None, None, no_tracker=True)
    info = await a.create("cave", [], None, None, no_tracker=True)
    joined = await b.join(a.invite("cave", ["member"], 60.0, 1))
    assert info.trackers == joined.trackers == ()


async def test_registry_is_kept_where_the_maker_says_and_all_who_join_know(nodes) -> None:
    a, b = nodes.node("a"), nodes.node("b")
    nodes.origin = SimpleNamespace(check=lambda stop: None)
    place = ("s3://team/cave", None, True, "origin")
    info = await a.create("cave", [], *place)
    joined = await b.join(a.invite("cave", ["member"], 60.0, 1))
    assert info.registry == joined.registry == "origin"
    again = nodes.node("b")
    again.start()
    assert again.get("cave").card.registry is RegistryPlace.ORIGIN
    assert (await made(a)).registry == "tracker"
    assert (await a.create("den", [], None, None, no_tracker=True)).registry == "members"


async def test_registry_at_an_origin_needs_one(nodes) -> None:
    keeper = nodes.node("a")
    with pytest.raises(InputError, match="--origin"):
        await keeper.create("lab", [TRACKER], None, None, registry="origin")
    with pytest.raises(InputError, match="tracker or origin"):
        await keeper.create("lab", [TRACKER], None, None, registry="git")
    assert keeper.sessions == []


async def test_nothing_stays_of_a_room_whose_bucket_can_keep_no_registry(
    nodes, monkeypatch
) -> None:
    keeper = nodes.node("a")
    nodes.origin = SimpleNamespace(check=lambda stop: None)
    monkeypatch.setattr(Session, "unproven", InputError("this store can't keep a registry"))
    with pytest.raises(InputError, match="can't keep"):
        await keeper.create("lab", [TRACKER], "s3://team/lab", None, registry="origin")
    assert keeper.sessions == []
    again = nodes.node("a")
    again.start()
    assert again.sessions == []


async def test_rooms_come_back_after_a_restart(nodes) -> None:
    await made(nodes.node("a"))
    again = nodes.node("a")
    again.start()
    assert again.get("team").card.name == "team"


async def test_nothing_stays_of_a_room_whose_tracker_refuses(nodes, monkeypatch) -> None:
    keeper = nodes.node("a")
    monkeypatch.setattr(Session, "refusal", ForbiddenError("no"))
    with pytest.raises(ForbiddenError):
        await made(keeper)
    assert keeper.sessions == []
    monkeypatch.setattr(Session, "refusal", None)
    await made(keeper)


async def test_a_token_that_the_tracker_refuses_joins_nothing(nodes, monkeypatch) -> None:
    a, b = nodes.node("a"), nodes.node("b")
    await made(a)
    token = a.invite("team", ["member"], 60.0, 1)
    monkeypatch.setattr(Session, "refusal", ForbiddenError("it was used before"))
    with pytest.raises(ForbiddenError, match="used before"):
        await b.join(token)
    assert b.sessions == []
    again = nodes.node("b")
    again.start()
    assert again.sessions == []


async def test_joining_twice_says_so(nodes) -> None:
    a, b = nodes.node("a"), nodes.node("b")
    await made(a)
    token = a.invite("team", ["member"], 60.0, 2)
    await b.join(token)
    with pytest.raises(InputError, match="already"):
        await b.join(token)
    assert len(b.sessions) == 1


async def test_a_room_left_is_closed_even_if_its_session_had_failed(nodes) -> None:
    keeper = nodes.node("a")
    await made(keeper)
    session = keeper.get("team")
    session.ends_with = RuntimeError("it broke")
    await asyncio.sleep(0)
    await keeper.leave("team")
    assert session.closed
    with pytest.raises(NoMatchError, match="in no room"):
        keeper.get(None)


async def test_a_room_that_fails_starts_again_after_ever_longer_pauses(nodes, caplog) -> None:
    keeper = nodes.node("a")
    await made(keeper)
    session = keeper.get("team")
    session.ends_with = ExceptionGroup("of the room", [RuntimeError("a bug")])
    async with asyncio.timeout(DEADLINE_S):
        for begun in range(1, 9):
            while session.begun < begun:
                await asyncio.sleep(0)
            session.breaks.set()
        while len(nodes.pauses) < 8:
            await asyncio.sleep(0)
    assert nodes.pauses[:3] == [1.0, 2.0, 4.0]
    assert nodes.pauses[-1] == ROOM_RESTART_MAX_S
    assert "a bug" in caplog.text
    assert keeper.get("team") is session
    await keeper.leave("team")
    assert session.closed


async def test_origin_is_forgotten_with_its_room_and_after_a_join_that_failed(
    nodes, monkeypatch
) -> None:
    a, b = nodes.node("a"), nodes.node("b")
    info = await made(a)
    token = a.invite("team", ["member"], 60.0, 1)
    monkeypatch.setattr(Session, "refusal", ForbiddenError("no"))
    with pytest.raises(ForbiddenError):
        await b.join(token)
    await a.leave("team")
    assert [card.room_id.hex() for card in nodes.forgotten] == [info.room_id] * 2


async def test_check_of_an_origin_ends_with_the_command_that_asked_for_it(nodes) -> None:
    begun, ended = threading.Event(), threading.Event()

    class HangingOrigin:
        def check(self, stop: threading.Event) -> None:
            begun.set()
            if stop.wait(DEADLINE_S):
                ended.set()

    nodes.origin = HangingOrigin()
    making = asyncio.create_task(made(nodes.node("a")))
    assert await asyncio.to_thread(begun.wait, DEADLINE_S)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert await asyncio.to_thread(ended.wait, DEADLINE_S)


async def test_a_room_that_can_not_be_asked_spoils_no_other(nodes, caplog) -> None:
    keeper = nodes.node("a")
    for name in ("one", "two"):
        await made(keeper, name)
    one, two = keeper.sessions
    one.models["best"] = RemoteError("the tracker of one is away")
    two.models["best"] = SimpleNamespace(manifest_id=b"2")
    assert (await keeper.find("best", None))[0] is two
    assert "the tracker of one is away" in caplog.text
    del two.models["best"]
    with pytest.raises(RemoteError, match="away"):
        await keeper.find("best", None)
    one.models["best"] = AmbiguousError("it names 2 models")
    with pytest.raises(AmbiguousError):
        await keeper.find("best", None)


async def test_a_room_that_is_being_made_is_not_found_yet(nodes, monkeypatch) -> None:
    keeper = nodes.node("a")
    await made(keeper)
    keeper._kept.clear()
    with pytest.raises(NoMatchError, match="try again"):
        keeper.get("team")


async def test_with_several_rooms_a_name_must_be_given(nodes) -> None:
    keeper = nodes.node("a")
    await made(keeper, "one")
    await made(keeper, "two")
    with pytest.raises(AmbiguousError, match="one, two"):
        keeper.get(None)
    assert list(keeper.some("two")) == [keeper.get("two")]
    assert keeper.some(None) == keeper.sessions


async def test_a_reference_is_looked_for_in_every_room(nodes) -> None:
    keeper = nodes.node("a")
    for name in ("one", "two"):
        await made(keeper, name)
    one, two = keeper.sessions
    two.models["best"] = SimpleNamespace(manifest_id=b"2")
    assert (await keeper.find("best", None))[0] is two
    with pytest.raises(NoMatchError):
        await keeper.find("worst", None)
    one.models["best"] = SimpleNamespace(manifest_id=b"1")
    with pytest.raises(AmbiguousError, match="several rooms"):
        await keeper.find("best", None)
    assert (await keeper.find("best", "one"))[0] is one


async def test_a_room_without_trackers_can_not_be_made(nodes) -> None:
    with pytest.raises(InputError, match="--tracker"):
        await nodes.node("a").create("team", [], None, None)


async def test_events_go_to_the_room_whose_link_they_are_about(nodes) -> None:
    keeper, seen = nodes.node("a"), []
    await made(keeper)
    keeper.get("team").links.transport_event = seen.append
    for number in (7, 8):
        keeper.transport_event(SimpleNamespace(link=number))
    assert [event.link for event in seen] == [7]


class CheckedOrigin:
    """An origin whose check ends as told; notes which trackers could sign for it by then."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.signers: list = []
        self.keeper: RoomKeeper | None = None

    def check(self, stop: threading.Event) -> None:
        self.signers = [session.card.name for session in self.keeper.sessions]
        if self.error:
            raise self.error


async def make_with_origin(nodes, error: Exception | None):
    nodes.origin = CheckedOrigin(error)
    keeper = nodes.origin.keeper = nodes.node("a")
    return keeper, await keeper.create("team", [TRACKER], "s3://bucket/x", None)


async def test_room_is_at_its_tracker_before_its_origin_is_checked(nodes) -> None:
    _, info = await make_with_origin(nodes, None)
    assert (nodes.origin.signers, info.advice) == (["team"], "")


async def test_room_whose_tracker_signs_no_urls_yet_is_made_with_advice(nodes) -> None:
    advice = "have the tracker's owner add it"
    keeper, info = await make_with_origin(nodes, OriginUnsignedError(advice))
    assert info.advice == advice
    assert keeper.get("team").card.origin == "s3://bucket/x"
    assert keeper.infos()[0].advice == ""


async def test_nothing_stays_of_a_room_whose_origin_refuses(nodes) -> None:
    with pytest.raises(OriginRefusedError):
        await make_with_origin(nodes, OriginRefusedError("the bucket is another's"))
    assert nodes.keepers[0].sessions == []
