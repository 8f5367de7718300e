"""Copies of a registry that members learn from one another; the documents are real."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace

import pytest
from blake3 import blake3

from dreamer.daemon.room.local_documents import LocalDocuments
from dreamer.daemon.room.registry_client import RegistryClient
from dreamer.daemon.room.registry_exchange import RegistryExchange
from dreamer.daemon.sharing.objects import ObjectFetcher
from dreamer.daemon.state import State
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import ConflictError, InputError, RemoteError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.link.gossip import GOSSIP
from dreamer.protocol.link.messages import GetObject, ObjectPiece, Ping, Refuse, RegistryIs
from dreamer.protocol.registry.changes import Author, MoveAlias, Publish
from dreamer.protocol.registry.statements import ModelEntry
from dreamer.protocol.registry_limits import (
    REGISTRY_LEARN_INTERVAL_MAX_S,
    REGISTRY_LEARN_INTERVAL_S,
)
from dreamer.protocol.rooms.keys import SigningKey

ROOM = RoomId(b"R" * 32)
NOW = 1_800_000_000.0
DEADLINE_S = 10.0


def entry(number: int) -> ModelEntry:
    return ModelEntry(ManifestId(bytes([number]) * 32), f"model{number}", 1, 1, "files")


def trusting(room, chain, now):
    return SimpleNamespace(node_id=NodeId(bytes.fromhex(chain[0])), roles=("publisher",))


class Away:
    """A store that can't be reached."""

    async def read(self):
        raise RemoteError("the tracker is away")

    async def write(self, data, etag, /):
        raise RemoteError("the tracker is away")


class Member:
    """A node with its copy of the registry, and links to others that carry messages at once."""

    def __init__(self, number: int, state: State, store=None, capabilities=None) -> None:
        key = SigningKey(bytes([number]) * 32)
        self.id = NodeId(key.public)
        self.tasks = TaskSet()
        self.objects = ObjectFetcher(itertools.count(1))
        self.pauses: list[float] = []
        self.wanted = True
        self.capabilities = {GOSSIP: 1} if capabilities is None else capabilities
        self.registry = RegistryClient(
            ROOM,
            store or LocalDocuments(ROOM, state),
            Author(key, [key.public.hex()]),
            trusting,
            keep=self._keep,
            clock=lambda: NOW,
        )
        self.exchange = RegistryExchange(
            self.objects, self.registry.learn, lambda: self.wanted, self.tasks, self._pause
        )
        self.kept: list[bytes] = []
        self.heard: list[object] = []

    def _keep(self, data: bytes, etag: str) -> None:
        self.kept.append(data)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def change(self, *changes) -> None:
        await self.registry.change(*changes)
        self.exchange.hold(self.kept[-1])

    async def names(self) -> set[str]:
        found = await self.registry.recall()
        return {model.name for model in found.registry.models.values()} if found else set()

    def link(self, other: Member):
        """Return this end of a link to another member."""

        def send(message) -> None:
            asyncio.get_running_loop().call_soon(other.take, self, message)

        return SimpleNamespace(
            number=other.id[0], peer=other.id, capabilities=other.capabilities, send=send
        )

    def take(self, sender: Member, message) -> None:
        self.heard.append(message)
        back = self.link(sender)
        self.exchange.message(back, message)
        self.objects.message(back, message)
        if isinstance(message, GetObject):
            data = self.exchange.get(message.digest)
            if data is None:
                back.send(Refuse(message.request, False, "not here"))
            else:
                piece = data[message.offset : message.offset + 131072]
                back.send(ObjectPiece(message.request, len(data), message.offset, piece))

    async def idle(self) -> None:
        """Wait until nothing is being fetched."""
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(3):
                await asyncio.sleep(0)
            while self.exchange._fetching:
                await asyncio.sleep(0)


@pytest.fixture
async def members(tmp_path):
    """Makes members; each has a state of its own."""
    states = []
    made = []

    def member(number: int, **options) -> Member:
        states.append(State(tmp_path / f"{number}.db"))
        made.append(Member(number, states[-1], **options))
        return made[-1]

    yield member
    for one in made:
        await one.tasks.close()
    for state in states:
        state.close()


def meet(a: Member, b: Member) -> None:
    a.exchange.link_up(a.link(b))
    b.exchange.link_up(b.link(a))


async def test_what_one_has_the_other_learns_when_they_link(members) -> None:
    a, b = members(1), members(2)
    await a.change(Publish(entry(1)), MoveAlias("prod", entry(1).manifest_id))
    meet(a, b)
    await b.idle()
    assert await b.names() == {"model1"}
    assert b.pauses == [REGISTRY_LEARN_INTERVAL_S]


async def test_a_change_is_told_to_who_is_linked(members) -> None:
    a, b = members(1), members(2)
    meet(a, b)
    await a.change(Publish(entry(1)))
    await b.idle()
    assert await b.names() == {"model1"}


async def test_both_keep_what_they_did_apart_and_then_fall_silent(members) -> None:
    a, b = members(1), members(2)
    await a.change(Publish(entry(1)))
    await b.change(Publish(entry(2)))
    meet(a, b)
    for _ in range(5):
        await a.idle()
        await b.idle()
        for one in (a, b):
            one.exchange.hold(one.kept[-1])
    assert await a.names() == await b.names() == {"model1", "model2"}
    assert a.kept[-1] == b.kept[-1]
    said = len(a.heard) + len(b.heard)
    await a.idle()
    await b.idle()
    assert len(a.heard) + len(b.heard) == said


async def test_nothing_is_learned_where_a_tracker_counts(members) -> None:
    a, b = members(1), members(2)
    b.wanted = False
    await a.change(Publish(entry(1)))
    meet(a, b)
    await b.idle()
    assert await b.names() == set()


async def test_an_older_node_is_not_told(members) -> None:
    a, b = members(1), members(2, capabilities={})
    await a.change(Publish(entry(1)))
    meet(a, b)
    await b.idle()
    assert b.heard == []


async def test_who_tells_and_does_not_give_costs_nothing(members) -> None:
    a, b = members(1), members(2)
    meet(a, b)
    b.take(a, RegistryIs(b"x" * 32))
    await b.idle()
    assert any(isinstance(message, Refuse) for message in b.heard)
    await a.change(Publish(entry(1)))
    await b.idle()
    assert await b.names() == {"model1"}


async def test_junk_that_has_its_hash_is_refused(members) -> None:
    a, b = members(1), members(2)
    meet(a, b)
    a.exchange.hold(b'{"format":"junk"}')
    await b.idle()
    assert await b.names() == set()
    assert not b.exchange._fetching


async def test_who_goes_on_with_junk_is_asked_ever_more_seldom(members) -> None:
    a, b = members(1), members(2)
    meet(a, b)
    left = iter(range(7))

    async def tell_more(seconds: float) -> None:
        b.pauses.append(seconds)
        if (number := next(left, None)) is not None:
            a.exchange.hold(b'{"format":"junk %d"}' % number)
            for _ in range(3):
                await asyncio.sleep(0)

    b.exchange._sleep = tell_more
    a.exchange.hold(b"junk")
    await b.idle()
    assert b.pauses == [4.0, 8.0, 16.0, 32.0, *[REGISTRY_LEARN_INTERVAL_MAX_S] * 4]


async def test_a_lost_link_is_forgotten(members) -> None:
    a, b = members(1), members(2)
    meet(a, b)
    a.exchange.link_down(a.link(b), "gone")
    await a.change(Publish(entry(1)))
    await b.idle()
    assert b.heard == []


async def test_the_copy_before_can_still_be_had(members) -> None:
    a = members(1)
    await a.change(Publish(entry(1)))
    await a.change(Publish(entry(2)))
    old, new = a.kept[0], a.kept[-1]
    for data in (old, new):
        assert a.exchange.get(blake3(data).digest()) == data
    a.exchange.hold(new + b" ")
    assert a.exchange.get(blake3(old).digest()) is None


async def test_other_messages_are_no_business_of_the_exchange(members) -> None:
    a, b = members(1), members(2)
    a.exchange.message(a.link(b), Ping(1))
    assert not a.exchange._fetching


async def test_what_is_learned_while_the_store_is_away_is_known_here(members) -> None:
    a, b = members(1), members(2, store=Away())
    await a.change(Publish(entry(1)))
    assert await b.registry.learn(a.kept[-1])
    assert not await b.registry.learn(a.kept[-1])
    assert await b.names() == {"model1"}
    assert b.kept == [a.kept[-1]]


async def test_a_document_of_another_room_teaches_nothing(members) -> None:
    a = members(1)
    with pytest.raises(InputError):
        await a.registry.learn(b"{}")


async def test_a_local_document_changes_only_on_the_version_that_was_read(tmp_path) -> None:
    state = State(tmp_path / "state.db")
    documents = LocalDocuments(ROOM, state)
    assert await documents.read() is None
    first = await documents.write(b"one", None)
    with pytest.raises(ConflictError):
        await documents.write(b"two", None)
    second = await documents.write(b"two", first)
    with pytest.raises(ConflictError):
        await documents.write(b"three", first)
    assert await documents.read() == (b"two", second)
    state.close()
