"""Which models are seeded: public ones, whole ones, for as long as they are both."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dreamer.daemon.sharing.library import Library
from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.torrent.publicity import Publicity
from dreamer.daemon.torrent.seeding import Seeding, SeedingParts
from dreamer.daemon.torrent.vocabulary import AddTorrent, RemoveTorrent, SwarmSeen
from dreamer.protocol.errors import RemoteError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.registry.view import Model, Registry
from dreamer.protocol.rooms.card import RoomCard
from dreamer.protocol.swarm import bitfield

ROOM = RoomId(b"r" * 32)
CARD = RoomCard(ROOM, "lab", ("http://t.example",), None, None, b"s" * 32)


class FakeTorrents:
    """Notes what the torrent process would be told."""

    enabled = True
    port = 0

    def __init__(self) -> None:
        self.sent: list = []
        self.listeners: dict = {}
        self._last = 0

    def new_number(self) -> int:
        self._last += 1
        return self._last

    def add(self, command, on_event) -> None:
        self.sent.append(command)
        self.listeners[command.torrent] = on_event

    def send(self, command) -> None:
        self.sent.append(command)

    def kinds(self) -> list[type]:
        return [type(one) for one in self.sent]


class Lab:
    """One room's session and library around real seeding."""

    def __init__(self, model) -> None:
        self.model = model
        self.library = Library()
        self.tasks = TaskSet()
        self.torrents = FakeTorrents()
        self.uploaded: list[int] = []
        self.publicity = Publicity(model.store)
        self.seeding = Seeding(
            SeedingParts(
                *(self.torrents, self.publicity, model.store, self.library, self.tasks),
                uploaded=self.uploaded.append,
            )
        )
        self.registry: Registry | None = Registry()
        self.session = SimpleNamespace(
            room_id=ROOM,
            card=CARD,
            registry_changed=[],
            at_close=[],
            read_registry=self._read,
        )

    async def _read(self) -> Registry:
        if self.registry is None:
            raise RemoteError("the tracker is away")
        return self.registry

    def publish(self, public: bool = True) -> None:
        made, manifest = self.model, self.model.manifest
        torrent = self.publicity.announce(made.metadata, "m", CARD) if public else None
        model = Model(
            *(manifest.id, "m", manifest.size_bytes, len(manifest.files), "files"),
            *(NodeId(b"n" * 32), 0.0),
            torrent=torrent,
        )
        self.registry = Registry({manifest.id: model})
        for listener in self.session.registry_changed:
            listener()

    def hold(self, blocks: int | None = None) -> None:
        manifest = self.model.manifest
        held = bitfield.full(manifest.block_count) if blocks is None else blocks
        self.library.offer(ROOM, manifest.id, manifest, held)


@pytest.fixture
async def lab(model):
    made = Lab(model)
    made.seeding.watch(made.session)
    yield made
    await made.tasks.close()
    made.seeding.close()


async def test_public_model_that_is_whole_is_seeded_twice_over(lab, waiting) -> None:
    lab.hold()
    lab.publish()
    await waiting(lambda: len(lab.torrents.sent) == 2)
    hybrid, companion = lab.torrents.sent
    assert hybrid.metadata == lab.model.metadata.object_bytes
    assert companion.metadata == lab.model.metadata.companion((), ())
    assert hybrid.trackers == ["http://t.example/announce", "ws://t.example/announce"]
    assert (hybrid.have, companion.have) == (b"", b"")
    offering = lab.library.find(ROOM, lab.model.manifest.id)
    assert offering.names(lab.model.metadata.digest)


async def test_model_is_seeded_once_its_last_block_is_here(lab, waiting) -> None:
    lab.publish()
    lab.hold(0b1)
    lab.hold()
    await waiting(lambda: lab.torrents.kinds() == [AddTorrent, AddTorrent])


async def test_private_model_is_never_seeded(lab, waiting) -> None:
    lab.hold()
    lab.publish(public=False)
    other = Lab(lab.model)
    other.seeding.watch(other.session)
    other.hold()
    other.publish()
    # By the time that a public one is seeded, the private one would be, too.
    await waiting(lambda: other.torrents.sent)
    assert lab.torrents.sent == []
    await other.tasks.close()


async def test_model_that_is_public_no_more_leaves_its_swarms(lab, waiting) -> None:
    lab.hold()
    lab.publish()
    await waiting(lambda: len(lab.torrents.sent) == 2)
    lab.publish(public=False)
    await waiting(lambda: lab.torrents.kinds()[2:] == [RemoveTorrent, RemoveTorrent])


async def test_withdrawn_model_leaves_its_swarms_at_once(lab, waiting) -> None:
    lab.hold()
    lab.publish()
    await waiting(lambda: len(lab.torrents.sent) == 2)
    lab.library.withdraw_everywhere(lab.model.manifest.id)
    assert lab.torrents.kinds()[2:] == [RemoveTorrent, RemoveTorrent]
    assert lab.seeding.seeds == {}


async def test_room_that_is_left_takes_its_seeds_along(lab, waiting) -> None:
    lab.hold()
    lab.publish()
    await waiting(lambda: len(lab.torrents.sent) == 2)
    for end in lab.session.at_close:
        end()
    assert lab.torrents.kinds()[2:] == [RemoveTorrent, RemoveTorrent]


async def test_what_strangers_are_given_is_counted(lab, waiting) -> None:
    lab.hold()
    lab.publish()
    await waiting(lambda: len(lab.torrents.sent) == 2)
    lab.torrents.listeners[1](SwarmSeen(1, 2, b"", 0, 500))
    lab.torrents.listeners[2](SwarmSeen(2, 1, b"", 0, 70))
    assert lab.uploaded == [500, 70]
    status = lab.seeding.status()
    assert (status["bytes_up"], status["peers"]) == (570, 3)


async def test_registry_that_can_not_be_read_is_looked_at_again(lab, waiting) -> None:
    lab.registry = None
    lab.hold()
    lab.publish()
    await waiting(lambda: len(lab.torrents.sent) == 2)
