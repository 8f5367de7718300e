"""The registry at the first of several trackers, and its copies at the others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random

import pytest

from dreamer.daemon.rendezvous.services import TrackerBusyError
from dreamer.daemon.room.registry_client import RegistryClient
from dreamer.daemon.room.registry_documents import TrackerDocuments
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import ConflictError, ForbiddenError, RemoteError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.registry.changes import Author, Publish
from dreamer.protocol.registry.document import Document, parse
from dreamer.protocol.registry.statements import ModelEntry
from dreamer.protocol.registry_limits import REGISTRY_BUSY_ATTEMPTS
from dreamer.protocol.rooms.card import RoomCard
from dreamer.protocol.rooms.keys import SigningKey

ROOM = RoomId(b"R" * 32)
WRITERS, TURNS = 4, 5
URLS = ("http://one", "http://two", "http://three")


def document(serial: int) -> bytes:
    return Document(ROOM, serial).encode()


class Tracker:
    """A tracker's registry: writes on a condition, as the real one does."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connected = True
        self.last_error = None
        self.versions: list[bytes] = []
        self.reads = 0
        self.read_only = False
        self.hangs = False
        self.between = lambda: None

    @property
    def body(self) -> bytes | None:
        return self.versions[-1] if self.versions else None

    @property
    def serial(self) -> int | None:
        return parse(self.body, ROOM).serial if self.body else None

    def _check(self) -> None:
        if not self.connected:
            raise RemoteError(f"{self.url} is away")

    async def first_attempt(self, timeout_s: float) -> None:
        await asyncio.sleep(0)

    async def read_registry(self):
        self._check()
        self.reads += 1
        if self.hangs:
            await asyncio.Event().wait()
        return (self.body, f"{self.url}/{len(self.versions)}") if self.body else None

    async def write_registry(self, body, etag):
        self._check()
        self.between()
        if self.read_only:
            raise ForbiddenError("only publishers may")
        if etag != (f"{self.url}/{len(self.versions)}" if self.versions else None):
            raise ConflictError("somebody else was first")
        self.versions.append(body)
        return f"{self.url}/{len(self.versions)}"


class House:
    """Three trackers and one node's view of them; ``pauses`` are those before mirroring."""

    def __init__(self, mirrors: bool = True) -> None:
        self.trackers = [Tracker(url) for url in URLS]
        self.tasks = TaskSet()
        self.pauses: list[float] = []
        card = RoomCard(ROOM, "team", URLS, None, None, b"s" * 32)
        self.documents = TrackerDocuments(
            card, self.trackers, mirrors, Random(1), self.tasks, self.pause
        )

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    async def settle(self) -> None:
        while self.tasks._tasks:
            await asyncio.gather(*self.tasks._tasks, return_exceptions=True)

    def serials(self) -> list[int | None]:
        return [one.serial for one in self.trackers]


@pytest.fixture
def house():
    return House()


async def test_what_is_written_is_mirrored_at_once(house):
    etag = await house.documents.write(document(1), None)
    await house.settle()
    assert house.serials() == [1, 1, 1]
    assert house.pauses == [0.0]
    await house.documents.write(document(2), etag)
    await house.settle()
    assert house.serials() == [2, 2, 2]


async def test_who_reads_something_newer_mirrors_it_after_a_while_and_only_once(house):
    house.trackers[0].versions = [document(5)]
    for _ in range(3):
        await house.documents.read()
        await house.settle()
    assert house.serials() == [5, 5, 5]
    assert len(house.pauses) == 1
    assert house.pauses[0] > 1.0
    assert house.trackers[1].reads == 1


async def test_another_member_that_was_quicker_spares_the_work(house):
    house.trackers[0].versions = [document(5)]
    await house.documents.read()
    assert not house.documents.changed_at(URLS[1])
    await house.settle()
    assert house.serials() == [5, None, 5]
    assert house.documents.changed_at(URLS[0])


async def test_mirror_never_goes_backwards(house):
    house.trackers[1].versions = [document(9)]
    await house.documents.write(document(3), None)
    await house.settle()
    assert house.serials() == [3, 9, 3]


async def test_mirror_that_moved_meanwhile_is_looked_at_again(house):
    def rival():
        house.trackers[1].between = lambda: None
        house.trackers[1].versions.append(document(7))

    house.trackers[1].between = rival
    await house.documents.write(document(3), None)
    await house.settle()
    assert house.serials() == [3, 7, 3]


async def test_mirror_of_rubbish_is_replaced_but_rubbish_is_not_mirrored(house):
    house.trackers[1].versions = [b"{}"]
    await house.documents.write(document(3), None)
    await house.settle()
    assert house.serials() == [3, 3, 3]
    house.trackers[0].versions.append(b"{}")
    assert (await house.documents.read())[0] == b"{}"
    await house.settle()
    assert house.trackers[1].serial == 3


async def test_mirror_that_was_away_is_brought_up_to_date_when_it_is_back(house):
    house.trackers[2].connected = False
    await house.documents.write(document(4), None)
    await house.settle()
    assert house.serials() == [4, 4, None]
    house.trackers[2].connected = True
    house.documents.returned(URLS[2])
    await house.settle()
    assert house.serials() == [4, 4, 4]


async def test_one_mirror_that_refuses_keeps_no_other_from_its_copy(house):
    house.trackers[1].read_only = True
    await house.documents.write(document(4), None)
    await house.settle()
    assert house.serials() == [4, None, 4]


async def test_mirror_that_hangs_keeps_no_other_from_its_copy(house):
    house.trackers[1].hangs = True
    etag = await house.documents.write(document(1), None)
    etag = await house.documents.write(document(2), etag)
    async with asyncio.timeout(10):
        while house.trackers[2].serial != 2:
            await asyncio.sleep(0.01)
    assert house.serials() == [2, None, 2]
    await house.tasks.close()


async def test_mirror_that_hangs_is_not_waited_for_when_another_has_a_copy(house, monkeypatch):
    monkeypatch.setattr("dreamer.daemon.room.registry_documents.REGISTRY_FIRST_WAIT_S", 0.05)
    await house.documents.write(document(3), None)
    await house.settle()
    house.trackers[0].connected, house.trackers[1].hangs = False, True
    async with asyncio.timeout(10):
        found = await house.documents.read()
    assert found == (document(3), "http://three/1")


@pytest.mark.parametrize("evil", [b"[" * 2**22, document(1)], ids=["rubbish", "older"])
async def test_evil_mirror_is_passed_over_for_one_that_has_more(house, evil):
    await house.documents.write(document(3), None)
    await house.settle()
    house.trackers[1].versions.append(evil)
    house.trackers[0].connected = False
    assert await house.documents.read() == (document(3), "http://three/1")


async def test_member_that_is_slowed_down_goes_on_by_itself(house):
    first = house.trackers[0]
    house.tracker_is_busy = 3

    def busy() -> None:
        house.tracker_is_busy -= 1
        if house.tracker_is_busy >= 0:
            raise TrackerBusyError("too many requests for this registry: wait a second")

    first.between = busy
    await house.documents.write(document(1), None)
    assert (first.serial, len(house.pauses) >= 3) == (1, True)


async def test_tracker_that_is_busy_for_ever_ends_with_its_own_words(house):
    def busy() -> None:
        raise TrackerBusyError("too many requests for this registry: wait a second")

    house.trackers[0].between = busy
    with pytest.raises(RemoteError, match="too many requests"):
        await house.documents.write(document(1), None)
    assert len(house.pauses) == REGISTRY_BUSY_ATTEMPTS


async def test_members_that_may_not_publish_leave_mirrors_alone():
    house = House(mirrors=False)
    house.trackers[0].versions = [document(4)]
    await house.documents.read()
    house.documents.returned(URLS[1])
    await house.settle()
    assert house.serials() == [4, None, None]


async def test_newest_mirror_is_read_while_the_first_tracker_is_away(house):
    house.trackers[1].versions = [document(4)]
    house.trackers[2].versions = [document(6)]
    house.trackers[0].connected = False
    assert (await house.documents.read())[0] == document(6)
    house.trackers[2].connected = False
    assert (await house.documents.read())[0] == document(4)
    assert house.documents.changed_at(URLS[1])
    house.trackers[1].versions = [b"rubbish"]
    with pytest.raises(RemoteError, match="first tracker"):
        await house.documents.read()


async def test_mirror_is_read_when_the_first_tracker_hangs(house, monkeypatch):
    monkeypatch.setattr("dreamer.daemon.room.registry_documents.REGISTRY_FIRST_WAIT_S", 0.01)
    house.trackers[0].hangs = True
    house.trackers[1].versions = [document(4)]
    assert (await house.documents.read())[0] == document(4)
    house.trackers[1].versions = []
    with pytest.raises(RemoteError, match="doesn't answer"):
        await house.documents.read()


async def test_nothing_is_written_to_a_mirror_in_place_of_the_first(house):
    house.trackers[1].versions = [document(4)]
    house.trackers[0].connected = False
    _, etag = await house.documents.read()
    with pytest.raises(RemoteError, match=f"first tracker.*runs at {URLS[0]}.*there alone"):
        await house.documents.write(document(5), etag)
    assert house.serials() == [None, 4, None]


async def test_write_on_top_of_a_mirror_is_a_conflict_once_the_first_is_back(house):
    house.trackers[0].versions = [document(6)]
    house.trackers[1].versions = [document(4)]
    house.trackers[0].connected = False
    _, etag = await house.documents.read()
    house.trackers[0].connected = True
    with pytest.raises(ConflictError):
        await house.documents.write(document(5), etag)
    assert house.serials()[0] == 6


async def test_document_that_the_first_tracker_lost_is_put_back_from_a_mirror(house):
    house.trackers[2].versions = [document(4)]
    found, etag = await house.documents.read()
    assert found == document(4)
    await house.documents.write(document(5), etag)
    await house.settle()
    assert house.serials() == [5, 5, 5]


async def test_room_with_one_tracker_has_no_mirrors_and_says_nothing_of_a_first():
    tracker = Tracker(URLS[0])
    card = RoomCard(ROOM, "team", URLS[:1], None, None, b"s" * 32)
    documents = TrackerDocuments(card, [tracker], True, Random(1), TaskSet())
    await documents.write(document(1), None)
    tracker.connected = False
    with pytest.raises(RemoteError, match="can't reach the tracker of room team"):
        await documents.read()
    with pytest.raises(RemoteError, match="no tracker"):
        await TrackerDocuments(card, [], True, Random(1), TaskSet()).read()


class Lasting(Tracker):
    """A tracker whose ETags never come again, not even after it has lost everything."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.lost = 0

    def lose(self) -> None:
        self.lost += len(self.versions)
        self.versions.clear()

    def etag(self) -> str | None:
        return f"{self.url}/{self.lost + len(self.versions)}" if self.versions else None

    async def read_registry(self):
        self._check()
        await asyncio.sleep(0)
        return (self.body, self.etag()) if self.body else None

    async def write_registry(self, body, etag):
        self._check()
        await asyncio.sleep(0)
        if etag != self.etag():
            raise ConflictError("somebody else was first")
        self.versions.append(body)
        return self.etag()


@dataclass(frozen=True)
class Publisher:
    node_id: NodeId
    roles: tuple[str, ...] = ("publisher",)


async def test_writers_at_two_trackers_lose_no_change_even_if_the_first_loses_its_data():
    trackers, tasks = [Lasting(url) for url in URLS[:2]], TaskSet()
    card = RoomCard(ROOM, "team", URLS[:2], None, None, b"s" * 32)

    async def pause(seconds: float) -> None:
        await asyncio.sleep(seconds / 100)

    def client(number: int) -> RegistryClient:
        key = SigningKey(bytes([number]) * 32)
        documents = TrackerDocuments(card, trackers, True, Random(number), tasks, pause)
        return RegistryClient(
            *(ROOM, documents, Author(key, [key.public.hex()])),
            lambda room, chain, now: Publisher(NodeId(bytes.fromhex(chain[0]))),
            rng=Random(number),
            sleep=pause,
        )

    async def write(number: int) -> None:
        one = client(number)
        for turn in range(TURNS):
            model = ManifestId(bytes([number, turn]) * 16)
            entry = ModelEntry(model, f"m{number}-{turn}", 1, 1, "files")
            while True:
                try:
                    await one.change(Publish(entry))
                except ConflictError:
                    # Nothing was changed, and it is said so: the person tries again.
                    continue
                break
            if (number, turn) == (1, TURNS // 2):
                trackers[0].lose()

    await asyncio.gather(*(write(number) for number in range(1, WRITERS + 1)))
    found = (await client(99).refresh()).registry
    assert len(found.models) == WRITERS * TURNS
    while tasks._tasks:
        await asyncio.gather(*tasks._tasks, return_exceptions=True)
    assert trackers[1].body == trackers[0].body
