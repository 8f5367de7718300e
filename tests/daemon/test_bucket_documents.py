"""The registry in a room's bucket as a node keeps to it, also while the bucket is away, or lies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

import pytest
from blake3 import blake3

from dreamer.daemon.origin.document import OriginUnconditionalError
from dreamer.daemon.origin.faults import (
    OriginBusyError,
    OriginConflictError,
    OriginNoBucketError,
    OriginRefusedError,
    OriginUnsignedError,
)
from dreamer.daemon.room import bucket_documents
from dreamer.daemon.room.bucket_documents import BucketDocuments
from dreamer.daemon.room.registry_client import RegistryClient
from dreamer.daemon.room.room_registry import RoomRegistry
from dreamer.daemon.state import State
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import ConflictError, ForbiddenError, InputError, RemoteError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.link.messages import RegistryIs
from dreamer.protocol.registry.changes import Author, MoveAlias, Publish
from dreamer.protocol.registry.statements import ModelEntry
from dreamer.protocol.rooms.card import RegistryPlace, RoomCard
from dreamer.protocol.rooms.keys import SigningKey

ROOM = RoomId(b"R" * 32)
CARD = RoomCard(
    *(ROOM, "lab", (), "s3://team/lab", "http://s3", b"s" * 32), registry=RegistryPlace.ORIGIN
)
AWAY = OriginBusyError("s3://team/lab: can't be reached; check the network")


@dataclass(frozen=True)
class Publisher:
    node_id: NodeId
    roles: Sequence[str] = ("publisher",)


def trusting(room, chain, now):
    return Publisher(NodeId(bytes.fromhex(chain[0])))


def author(number=1):
    key = SigningKey(bytes([number]) * 32)
    return Author(key, [key.public.hex()])


def entry(number):
    return ModelEntry(ManifestId(bytes([number]) * 32), f"m{number}", 1, 1, "files")


class Bucket:
    """The document at an origin; ``fault`` is what every call ends with."""

    def __init__(self) -> None:
        self.versions: list[bytes] = []
        self.fault: Exception | None = None
        self.unproven: Exception | None = None
        self.reads = 0
        self.silent = threading.Event()
        self.silent.set()

    def read(self, stop):
        self.reads += 1
        while not self.silent.wait(0.01) and not stop.is_set():
            pass
        if self.fault:
            raise self.fault
        return (self.versions[-1], f'"{len(self.versions)}"') if self.versions else None

    def write(self, data, etag, stop):
        if self.fault:
            raise self.fault
        if etag != (f'"{len(self.versions)}"' if self.versions else None):
            raise OriginConflictError("412")
        self.versions.append(data)
        return f'"{len(self.versions)}"'

    def prove(self, stop):
        if self.unproven:
            raise self.unproven


@pytest.fixture
def bucket():
    return Bucket()


@pytest.fixture
def documents(bucket):
    return BucketDocuments("lab", bucket)


async def test_members_of_a_room_without_trackers_share_one_registry(bucket):
    one, other = (
        RegistryClient(ROOM, BucketDocuments("lab", bucket), author(number), trusting)
        for number in (1, 2)
    )
    await one.change(Publish(entry(1)))
    await other.change(Publish(entry(2)), MoveAlias("prod", entry(1).manifest_id))
    registry = (await one.refresh()).registry
    assert len(registry.models) == 2
    assert registry.aliases == {"prod": entry(1).manifest_id}


async def test_conflict_is_told_as_one(documents, bucket):
    await documents.write(b"{}", None)
    with pytest.raises(ConflictError, match="room lab was changed"):
        await documents.write(b"{}", None)
    assert not documents.away


@pytest.mark.parametrize("fault", [AWAY, OriginNoBucketError("the bucket isn't there")])
async def test_bucket_that_is_away_says_what_goes_on_without_it(documents, bucket, fault):
    bucket.fault = fault
    for asked in (documents.read(), documents.write(b"{}", None)):
        with pytest.raises(
            RemoteError, match="as it was last seen, and nothing in it can be chang"
        ):
            await asked
    assert documents.away
    bucket.fault = None
    assert await documents.read() is None
    assert not documents.away


async def test_who_may_not_write_is_told_so_and_not_to_wait(documents, bucket):
    bucket.fault = OriginRefusedError("only publishers, workers and admins may write")
    with pytest.raises(ForbiddenError, match="only publishers"):
        await documents.write(b"{}", None)
    bucket.fault = OriginUnsignedError("no tracker signs")
    with pytest.raises(RemoteError, match="no tracker signs"):
        await documents.write(b"{}", None)


async def test_silent_bucket_is_not_waited_for_for_ever(documents, bucket, monkeypatch):
    await documents.read()
    monkeypatch.setattr(bucket_documents, "REGISTRY_FIRST_WAIT_S", 0.01)
    bucket.silent.clear()
    with pytest.raises(RemoteError, match="no answer in time"):
        await documents.read()
    assert documents.away


async def test_store_that_ignores_conditions_is_refused_with_the_way_out(documents, bucket):
    bucket.unproven = OriginUnconditionalError("a write with If-None-Match: * went through")
    with pytest.raises(InputError, match="--registry tracker") as raised:
        await documents.prove()
    assert "If-None-Match" in str(raised.value)
    assert "AWS S3 and MinIO" in str(raised.value)


async def test_room_is_made_by_a_node_that_can_try_the_store(documents, bucket):
    bucket.unproven = OriginUnsignedError("no credentials")
    with pytest.raises(InputError, match="AWS_ACCESS_KEY_ID"):
        await documents.prove()


async def test_bucket_is_looked_at_now_and_then(documents):
    looked, pauses = asyncio.Event(), []

    async def sleep(seconds):
        pauses.append(seconds)
        await asyncio.sleep(0)

    looking = asyncio.create_task(documents.look(looked.set, Random(1), sleep))
    await asyncio.wait_for(looked.wait(), 10)
    looking.cancel()
    assert 30.0 <= pauses[0] <= 90.0


# A node's registry, with what it remembers


class Objects:
    """Gives a member's copy to who asks for it."""

    def __init__(self) -> None:
        self.copies: dict[bytes, bytes] = {}
        self.fetched = 0

    async def fetch(self, link, digest, most):
        self.fetched += 1
        return self.copies[digest]


class Home:
    """A node's state on disk, and its registry of the room: made anew with each start."""

    def __init__(self, root, bucket, number=1) -> None:
        self.state = State(root / f"{number}.db")
        self.bucket = bucket
        self.number = number
        self.tasks = TaskSet()
        self.objects = Objects()

    def start(self) -> RoomRegistry:
        at_tracker = None
        return RoomRegistry(
            *(CARD, self.state, at_tracker, author(self.number), trusting, self.objects),
            tracker_there=lambda: False,
            tasks=self.tasks,
            at_origin=lambda: self.bucket,
        )

    async def close(self) -> None:
        await self.tasks.close()
        self.state.close()


@pytest.fixture
async def home(tmp_path, bucket):
    made = Home(tmp_path, bucket)
    yield made
    await made.close()


def names(verified):
    return {model.name for model in verified.registry.models.values()}


async def test_old_object_put_back_is_not_believed_after_a_restart(home, bucket):
    registry = home.start()
    await registry.client.change(Publish(entry(1)))
    await registry.client.change(Publish(entry(2)))
    bucket.versions.append(bucket.versions[0])
    again = home.start()
    with pytest.raises(ForbiddenError, match="old registry"):
        await again.client.refresh()
    assert names(await again.view.read()) == {"m1", "m2"}


@pytest.mark.parametrize("what", ["old", "gone", "damaged"])
async def test_change_after_a_restart_puts_back_what_was_seen(home, bucket, what, caplog):
    registry = home.start()
    await registry.client.change(Publish(entry(1)))
    await registry.client.change(Publish(entry(2)), MoveAlias("prod", entry(2).manifest_id))
    match what:
        case "old":
            bucket.versions.append(bucket.versions[0])
        case "gone":
            bucket.versions.clear()
        case "damaged":
            bucket.versions.append(b"\xff")
    again = home.start()
    changed = await again.client.change(Publish(entry(3)))
    assert names(changed) == {"m1", "m2", "m3"}
    assert changed.registry.aliases == {"prod": entry(2).manifest_id}
    assert names(await Home.start(home).view.read()) == {"m1", "m2", "m3"}


async def test_room_is_as_it_was_last_seen_while_its_bucket_is_away(home, bucket):
    await home.start().client.change(Publish(entry(1)), MoveAlias("prod", entry(1).manifest_id))
    bucket.fault = AWAY
    again = home.start()
    assert (await again.view.resolve("prod")).name == "m1"
    with pytest.raises(RemoteError, match="kept in its bucket"):
        await again.client.change(Publish(entry(2)))
    bucket.fault = None
    assert names(await again.client.change(Publish(entry(2)))) == {"m1", "m2"}


class Neighbour:
    """A link to a member that tells of its copy of the registry."""

    number = 7
    peer = NodeId(b"n" * 32)
    capabilities: ClassVar = {"gossip": 1}

    def send(self, message) -> None:
        pass


async def told(home, registry, data) -> None:
    """Have a neighbour tell of its copy, and wait until that was dealt with."""
    digest = blake3(data).digest()
    home.objects.copies[digest] = data
    dealt = asyncio.Event()

    async def sleep(seconds):
        dealt.set()

    registry.exchange._sleep = sleep
    registry.exchange.message(Neighbour(), RegistryIs(digest))
    await asyncio.wait_for(dealt.wait(), 10)


async def test_member_that_tells_of_a_change_has_the_bucket_read_and_no_copy_fetched(home, bucket):
    registry = home.start()
    await registry.view.read()
    writer = RegistryClient(ROOM, BucketDocuments("lab", bucket), author(2), trusting)
    await writer.change(Publish(entry(5)))
    await told(home, registry, bucket.versions[-1])
    assert names(registry.view.latest) == {"m5"}
    assert home.objects.fetched == 0


async def test_members_tell_one_another_what_is_new_while_the_bucket_is_away(home, bucket):
    registry = home.start()
    writer = RegistryClient(ROOM, BucketDocuments("lab", bucket), author(2), trusting)
    await writer.change(Publish(entry(5)))
    bucket.fault = AWAY
    await told(home, registry, bucket.versions[-1])
    assert names(await registry.view.read()) == {"m5"}
    assert home.objects.fetched == 1


async def test_room_with_trackers_may_keep_its_registry_in_the_bucket(tmp_path, home, bucket):
    card = replace(CARD, trackers=("http://t",))
    registry = RoomRegistry(
        *(card, home.state, None, author(), trusting, home.objects),
        tracker_there=lambda: True,
        tasks=home.tasks,
        at_origin=lambda: bucket,
    )
    await registry.client.change(Publish(entry(1)))
    assert len(bucket.versions) == 1
