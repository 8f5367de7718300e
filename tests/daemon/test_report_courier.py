"""How a node that may not write its room's registry has its report entered there."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest

from dreamer.daemon.room.registry_client import RegistryClient
from dreamer.daemon.room.report_courier import ReportCourier
from dreamer.protocol.errors import ForbiddenError, RemoteError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.registry.availability import NodeReport
from dreamer.protocol.registry.changes import Author, Publish, apply
from dreamer.protocol.registry.document import Document, parse
from dreamer.protocol.registry.handed_in import HandedIn, enter
from dreamer.protocol.registry.statements import ModelEntry
from dreamer.protocol.registry.verify import verify
from dreamer.protocol.registry_limits import CACHED_ID_BYTES
from dreamer.protocol.rooms.card import RegistryPlace, RoomCard
from dreamer.protocol.rooms.keys import SigningKey

ROOM = RoomId(b"R" * 32)
CARD = RoomCard(ROOM, "lab", ("http://a", "http://b"), "s3://bucket/lab", None, b"s" * 32)
NOW = 1_800_000_000.0
A = ManifestId(b"a" * 32)
HELD = NodeReport(((A[:CACHED_ID_BYTES], True),), name="bench")
PUBLISHER, PLAIN = SigningKey(b"p" * 32), SigningKey(b"q" * 32)
US = NodeId(PLAIN.public)


def believe(room, chain, now):
    node = bytes.fromhex(chain[0])
    roles = ("publisher",) if node == PUBLISHER.public else ("member",)
    return SimpleNamespace(node_id=NodeId(node), roles=roles)


class Store:
    """The room's document, which this node only reads; ``enter`` is what a tracker does."""

    def __init__(self, empty: bool = False) -> None:
        author = Author(PUBLISHER, [PUBLISHER.public.hex()])
        first = verify(Document(ROOM), believe, NOW)
        change = Publish(ModelEntry(A, "weights", 1, 1, "decoder"))
        made = apply(first, [change], author, NOW).encode()
        self.versions = [] if empty else [made]

    async def read(self):
        return (self.versions[-1], str(len(self.versions))) if self.versions else None

    async def write(self, data, etag, /):
        raise ForbiddenError("only publishers, workers and admins may change the registry")

    async def enter(self, report, chain) -> bool:
        document = parse(self.versions[-1], ROOM)
        entered = enter(document, HandedIn(report, chain), US, believe, NOW)
        self.versions.append(entered.encode())
        return True


def client(store, deliver) -> RegistryClient:
    author = Author(PLAIN, [PLAIN.public.hex()])
    return RegistryClient(
        *(ROOM, store, author, believe), deliver=deliver, rng=random.Random(1), clock=lambda: NOW
    )


async def test_report_goes_by_whoever_may_write():
    store = Store()
    reader = client(store, store.enter)
    await reader.report(HELD)
    registry = (await reader.refresh()).registry
    assert registry.reports[US] == HELD
    assert registry.models[A].cached_on == ((US, True),)


async def test_what_the_registry_says_already_is_not_handed_in_again():
    store = Store()
    reader = client(store, store.enter)
    await reader.report(HELD)
    await reader.report(HELD)
    assert len(store.versions) == 2
    await reader.report(NodeReport(name="bench"))
    assert (await reader.refresh()).registry.models[A].cached_on == ()


async def test_node_that_nobody_helps_tries_by_itself():
    async def nobody(report, chain) -> bool:
        return False

    with pytest.raises(ForbiddenError):
        await client(Store(), nobody).report(HELD)


async def test_report_waits_until_there_is_a_registry():
    async def never(report, chain) -> bool:
        raise AssertionError("there is nothing to report to")

    with pytest.raises(RemoteError, match="no registry to report to yet"):
        await client(Store(empty=True), never).report(HELD)


async def test_store_that_lags_behind_is_no_refusal_of_this_node():
    store = Store()
    reader = client(store, store.enter)
    await reader.report(HELD)
    await reader.refresh()
    store.versions.append(store.versions[0])
    with pytest.raises(RemoteError, match="old registry"):
        await reader.report(NodeReport(name="bench"))
    store.versions.pop()
    await reader.report(NodeReport(name="bench"))
    assert (await reader.refresh()).registry.reports[US].cached == ()


class Session:
    """A connection to a tracker; ``answer`` is what it says to a report."""

    def __init__(self, answer: bool, connected: bool = True) -> None:
        self.url = "http://a"
        self.answer = answer
        self.connected = connected
        self.asked: list[HandedIn] = []

    async def report(self, handed: HandedIn) -> bool:
        if not self.connected:
            raise RemoteError("no connection to http://a")
        self.asked.append(handed)
        return self.answer


async def test_only_the_first_tracker_is_asked_where_the_registry_is_kept_there():
    first, second = Session(True), Session(True)
    assert await ReportCourier(CARD, [first, second]).deliver("report", ["chain"])
    assert first.asked == [HandedIn("report", ["chain"], RegistryPlace.TRACKER)]
    first.connected = False
    with pytest.raises(RemoteError, match="no connection"):
        await ReportCourier(CARD, [first, second]).deliver("report", ["chain"])
    assert second.asked == []


async def test_tracker_of_an_older_version_is_asked_again_later_and_named():
    with pytest.raises(RemoteError, match=r"http://a enters no reports .* update it"):
        await ReportCourier(CARD, [Session(False)]).deliver("report", ["chain"])


async def test_any_tracker_that_reaches_the_bucket_will_do():
    card = replace(CARD, registry=RegistryPlace.ORIGIN)
    sessions = [Session(True, connected=False), Session(False), Session(True), Session(True)]
    assert await ReportCourier(card, sessions).deliver("report", ["chain"])
    assert [len(one.asked) for one in sessions] == [0, 1, 1, 0]
    assert sessions[2].asked[0].kept is RegistryPlace.ORIGIN
    assert not await ReportCourier(card, sessions[:2]).deliver("report", ["chain"])
