"""What requests may call a model, over the rooms of a node, and how often its rooms are asked."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest

from dreamer.daemon.offload.servables import Servables
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import AmbiguousError, NoMatchError, RemoteError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.offload_limits import (
    OFFLOAD_REGISTRY_MAX_AGE_S,
    OFFLOAD_REGISTRY_REFRESH_S,
)
from dreamer.protocol.registry.view import Model, Registry


def model(digit: str, name: str, *aliases: str, at=1.0, type_="decoder") -> Model:
    manifest_id = ManifestId(bytes.fromhex(digit * 64))
    node = NodeId(b"n" * 32)
    return Model(manifest_id, name, 10, 1, type_, node, at, tuple(aliases))


class Room:
    """A room with these models; ``reads`` counts how often its tracker was asked."""

    def __init__(self, name: str, *models: Model) -> None:
        self.card = SimpleNamespace(name=name)
        self.room_id = RoomId(name.encode().ljust(32, b"."))
        self.reads = self.recalls = 0
        self.away = False
        self._known: Registry | None = None
        self._judged: _Verified | None = None
        self.set(*models)

    def set(self, *models: Model) -> None:
        aliases = {alias: one.manifest_id for one in models for alias in one.aliases}
        self._now = Registry({one.manifest_id: one for one in models}, aliases)

    @property
    def registry(self):
        return self

    @property
    def known(self):
        if self._known is not None and (
            self._judged is None or self._judged.registry is not self._known
        ):
            self._judged = _Verified(self._known)
        return self._judged

    async def recall(self):
        self.recalls += 1
        return self.known

    async def read_registry(self):
        self.reads += 1
        if self.away:
            raise RemoteError("its tracker is away")
        self._known = self._now
        return self._now


class _Verified:
    """What a room's registry client has judged."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def as_of(self, now: float) -> _Verified:
        return _Verified(self.registry.as_of(now))


class Rooms:
    def __init__(self, *rooms: Room) -> None:
        self.sessions = list(rooms)

    def get(self, name):
        for one in self.sessions:
            if name in (one.card.name, one.room_id.hex()):
                return one
        raise NoMatchError(f"no room is called {name!r}")


class Node:
    def __init__(self, *rooms: Room, held=()) -> None:
        self.now = 0.0
        self.tasks = TaskSet()
        self.held = set(held)
        self.servables = Servables(
            Rooms(*rooms),
            lambda room, manifest_id: (room, manifest_id) in self.held,
            lambda ref, room: None,
            self.tasks,
            lambda: self.now,
        )

    async def find(self, ref: str) -> tuple[str, str]:
        session, found = await self.servables.find(ref)
        return session.card.name, found.name


OLD, NEW = model("a", "chat", "stable"), model("b", "chat", "prod", at=2.0)
OTHER = model("c", "other", "prod")


@pytest.mark.parametrize(
    ("ref", "manifest_id"),
    [
        ("prod", NEW.manifest_id),
        ("stable", OLD.manifest_id),
        ("a" * 64, OLD.manifest_id),
        ("aaaaaaaa", OLD.manifest_id),
        # Of several models of a name, the newest.
        ("chat", NEW.manifest_id),
        ("chat@lab", NEW.manifest_id),
        ("stable@lab", OLD.manifest_id),
        ("aaaaaaaa@lab", OLD.manifest_id),
    ],
)
async def test_a_model_is_found_by_what_it_is_called(ref, manifest_id) -> None:
    _, found = await Node(Room("lab", OLD, NEW)).servables.find(ref)
    assert found.manifest_id == manifest_id


async def test_the_same_name_in_several_rooms_needs_a_room() -> None:
    node = Node(Room("lab", NEW), Room("den", OTHER))
    with pytest.raises(AmbiguousError, match="prod@lab or prod@den"):
        await node.find("prod")
    assert await node.find("prod@lab") == ("lab", "chat")
    assert await node.find("prod@den") == ("den", "other")
    assert await node.find("other") == ("den", "other")


async def test_one_model_of_several_rooms_is_taken_where_it_is_here() -> None:
    lab, den = Room("lab", NEW), Room("den", NEW)
    assert await Node(lab, den).find("prod") == ("lab", "chat")
    node = Node(lab, den, held=[(den.room_id, NEW.manifest_id)])
    assert await node.find("prod") == ("den", "chat")


@pytest.mark.parametrize("ref", ["nothing", "prod@nowhere", "nothing@lab", "@", ""])
async def test_what_means_nothing_is_no_match(ref) -> None:
    with pytest.raises(NoMatchError):
        await Node(Room("lab", NEW)).find(ref)


async def test_a_room_that_can_not_be_asked_spoils_no_other() -> None:
    lab, den = Room("lab", NEW), Room("den", OTHER)
    den.away = True
    node = Node(lab, den)
    assert await node.find("chat") == ("lab", "chat")
    assert [one.name for one in await node.servables.all()] == ["chat"]
    with pytest.raises(RemoteError, match="away"):
        await node.find("other")


async def test_requests_go_by_what_was_read_last() -> None:
    lab = Room("lab", NEW)
    node = Node(lab)
    for _ in range(100):
        await node.find("prod")
    assert lab.reads == 1
    node.now += OFFLOAD_REGISTRY_REFRESH_S
    for _ in range(100):
        await node.find("prod")
    async with asyncio.timeout(10.0):
        while lab.reads < 2:
            await asyncio.sleep(0)
    node.now += OFFLOAD_REGISTRY_MAX_AGE_S
    await node.find("prod")
    assert lab.reads == 3
    await node.tasks.close()


async def test_what_this_node_changed_itself_is_seen_at_once() -> None:
    lab = Room("lab", NEW)
    node = Node(lab)
    await node.find("prod")
    lab._known = Registry({OTHER.manifest_id: OTHER}, {"prod": OTHER.manifest_id})
    assert await node.find("prod") == ("lab", "other")
    assert lab.reads == 1


async def test_a_name_is_looked_up_once_while_nothing_changes() -> None:
    lab = Room("lab", NEW)
    node = Node(lab)
    # What was read only now is kept from the second time on.
    await node.find("prod")
    await node.find("prod")
    looked_up = lab.recalls
    for _ in range(100):
        assert await node.find("prod") == ("lab", "chat")
    assert lab.recalls == looked_up
    node.now += OFFLOAD_REGISTRY_REFRESH_S
    await node.find("prod")
    assert lab.recalls > looked_up
    await node.tasks.close()


async def test_a_name_that_was_looked_up_means_nothing_once_its_model_has_expired() -> None:
    node = Node(Room("lab", replace(NEW, expires_at=time.time() + 3600)))
    await node.find("prod")
    session, meant = node.servables.rooms.sessions[0], await node.servables.find("prod")
    meanings = node.servables._meanings
    assert meanings.of("prod", [session], time.time()) == meant
    assert meanings.of("prod", [session], time.time() + 3601) is None


async def test_a_name_that_was_looked_up_is_looked_for_in_a_room_that_came_since() -> None:
    node = Node(Room("lab", NEW))
    assert await node.find("prod") == ("lab", "chat")
    node.servables.rooms.sessions.append(Room("den", OTHER))
    with pytest.raises(AmbiguousError, match="prod@lab or prod@den"):
        await node.find("prod")


async def test_a_name_that_moved_while_another_room_was_read_means_what_it_does_now() -> None:
    lab, den = Room("lab", NEW), Room("den", OLD)
    node, gate, asked = Node(lab, den), asyncio.Event(), asyncio.Event()
    await node.find("prod")
    read = den.read_registry

    async def slowly():
        asked.set()
        await gate.wait()
        return await read()

    # Judged anew, and slow.
    den.read_registry, den._known, den._judged = slowly, None, None
    finding = asyncio.create_task(node.find("prod"))
    await asked.wait()
    lab.set(replace(OTHER, at=3.0))
    await lab.read_registry()
    gate.set()
    assert await finding == ("lab", "chat")
    assert await node.find("prod") == ("lab", "other")


async def test_names_that_were_looked_up_hold_no_registry_that_has_changed() -> None:
    lab = Room("lab", NEW)
    node, versions = Node(lab), []
    for number in range(10):
        lab.set(replace(NEW, aliases=(f"v{number}",)))
        await lab.read_registry()
        assert await node.find(f"v{number}") == ("lab", "chat")
        versions.append(weakref.ref(lab.known))
    gc.collect()
    assert [version() is not None for version in versions] == [False] * 9 + [True]


async def test_a_name_that_is_not_known_yet_is_asked_for() -> None:
    lab = Room("lab", NEW)
    node = Node(lab)
    await node.find("prod")
    lab.set(NEW, model("d", "fresh", "fresh-alias"))
    assert await node.find("fresh-alias") == ("lab", "fresh")


async def test_what_can_be_run_is_listed_newest_first() -> None:
    lab = Room("lab", OLD, NEW, model("e", "papers", type_="files"))
    node = Node(lab, held=[(lab.room_id, OLD.manifest_id)])
    listed = await node.servables.all()
    assert [(one.manifest_id, one.here) for one in listed] == [
        (NEW.manifest_id.hex(), False),
        (OLD.manifest_id.hex(), True),
    ]
