"""A node's record in a room's registry: kept up to date, and left alone when there is no news."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from dreamer.daemon.costs.ledger import Ledger
from dreamer.daemon.costs.reporting import NodeReports, ReportParts
from dreamer.daemon.room.registry_client import RegistryClient
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.state import State
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol import report_schedule
from dreamer.protocol.errors import ConflictError, ForbiddenError, RemoteError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.registry.changes import Author, Publish
from dreamer.protocol.registry.statements import ModelEntry
from dreamer.protocol.registry_limits import CACHED_ID_BYTES
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.protocol.swarm import bitfield

ROOM, ELSEWHERE = RoomId(b"R" * 32), RoomId(b"E" * 32)
DECODER, FILES, UNKNOWN = (ManifestId(letter * 32) for letter in (b"d", b"f", b"u"))
KEY = SigningKey(b"k" * 32)
US = NodeId(KEY.public)
BLOCKS = 3
WAIT_S = 10.0


class Store:
    """Where the document is kept; ``refuses`` is what a write meets."""

    def __init__(self) -> None:
        self.versions: list[bytes] = []
        self.refuses: Exception | None = None
        self.tried = 0

    async def read(self):
        return (self.versions[-1], str(len(self.versions))) if self.versions else None

    async def write(self, data, etag, /):
        self.tried += 1
        if self.refuses is not None:
            raise self.refuses
        if (etag or "0") != str(len(self.versions)):
            raise ConflictError("somebody else was first")
        self.versions.append(data)
        return str(len(self.versions))


class Session:
    """A room's session, as far as reports look at it; its registry is a real one."""

    def __init__(self, store: Store) -> None:
        self.room_id = ROOM
        self.card = SimpleNamespace(name="lab")
        self.connected = True
        self.at_close: list = []
        chain = [KEY.public.hex()]

        def believe(room, chain, now):
            return SimpleNamespace(node_id=US, roles=("publisher",))

        self.registry = RegistryClient(
            ROOM, store, Author(KEY, chain), believe, rng=Random(1), clock=time.time
        )

    async def read_registry(self):
        return (await self.registry.refresh()).registry

    def known_members(self) -> Iterator[NodeId]:
        yield US

    async def ours(self):
        """Return what the registry says of this node."""
        return (await self.read_registry()).reports.get(US)


@pytest.fixture(autouse=True)
def soon(monkeypatch) -> None:
    """News of what is held waits for nothing."""
    for name in ("REPORT_DEBOUNCE_S", "REPORT_SPREAD_S", "REPORT_SPREAD_S_PER_MEMBER"):
        monkeypatch.setattr(report_schedule, name, 0.0)
    # A tenth of this lies between two pieces of news.
    monkeypatch.setattr(report_schedule, "REPORT_MIN_INTERVAL_S", 0.05)


@pytest.fixture
async def node(tmp_path: Path):
    """A node whose library, ledger and settings a test changes."""
    state, tasks = State(tmp_path / "state.db"), TaskSet()
    library, ledger = Library(), Ledger(state.database)
    made = SimpleNamespace(library=library, ledger=ledger, serves=True, store=Store())
    made.session = Session(made.store)
    await made.session.registry.change(
        Publish(ModelEntry(DECODER, "talker", 1, 1, "decoder")),
        Publish(ModelEntry(FILES, "data", 1, 1, "files")),
    )

    def begin() -> NodeReports:
        parts = ReportParts(
            *(US, "here", ledger, library, state, lambda: made.serves, Random(1), tasks)
        )
        reports = NodeReports(parts)
        reports.watch(made.session)
        return reports

    def offer(model: ManifestId, blocks: int = bitfield.full(BLOCKS), room: RoomId = ROOM) -> None:
        manifest = SimpleNamespace(block_count=BLOCKS, outboard=b"o" * 32, files=())
        library.offer(room, model, manifest, blocks)

    made.begin, made.offer = begin, offer
    yield made
    await tasks.close()
    state.close()


async def until(happened) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await happened():
            await asyncio.sleep(0.005)


def cached(report) -> dict[bytes, bool]:
    return dict(report.cached) if report is not None else {}


def cut(model: ManifestId) -> bytes:
    return model[:CACHED_ID_BYTES]


async def test_what_is_whole_here_is_reported_and_whether_members_can_have_it_run(node) -> None:
    node.offer(DECODER)
    node.offer(FILES)
    node.offer(UNKNOWN)
    node.begin()
    wanted = {cut(DECODER): True, cut(FILES): False}

    async def told() -> bool:
        return cached(await node.session.ours()) == wanted

    await until(told)
    assert (await node.session.ours()).name == "here"


async def test_parts_and_models_of_other_rooms_are_not(node) -> None:
    node.offer(DECODER, 0b1)
    node.offer(FILES, room=ELSEWHERE)
    node.begin()

    async def told() -> bool:
        return await node.session.ours() is not None

    await until(told)
    assert cached(await node.session.ours()) == {}


async def test_it_is_told_when_a_model_comes_and_when_it_is_evicted(node) -> None:
    node.begin()
    node.offer(FILES)

    async def here() -> bool:
        return cut(FILES) in cached(await node.session.ours())

    async def gone() -> bool:
        return not await here()

    await until(here)
    node.library.withdraw(ROOM, FILES)
    await until(gone)


async def test_without_news_nothing_is_written_also_after_a_restart(node) -> None:
    node.offer(FILES)
    first = node.begin()

    async def told() -> bool:
        return cut(FILES) in cached(await node.session.ours())

    await until(told)
    await first.last()
    written = len(node.store.versions)
    second = node.begin()
    # News that is none: what was offered is offered again.
    node.library.withdraw(ROOM, FILES)
    node.offer(FILES)
    await second.last()
    assert len(node.store.versions) == written


async def test_what_was_moved_is_reported_by_month_at_the_latest_at_the_end(node, entry) -> None:
    reports = node.begin()

    async def told() -> bool:
        return await node.session.ours() is not None

    await until(told)
    node.ledger.add(ROOM, FILES, entry("direct-down"), 7)
    node.ledger.add(ELSEWHERE, FILES, entry("direct-down"), 100)
    await reports.last()
    (month,) = (await node.session.ours()).usage.values()
    assert month == {"direct-down": 7}


async def test_who_may_not_write_tries_once(node) -> None:
    node.store.refuses = ForbiddenError("only publishers and admins may change the registry")
    before = node.store.tried
    reports = node.begin()

    async def tried() -> bool:
        return node.store.tried > before

    await until(tried)
    node.offer(FILES)
    node.offer(DECODER)
    await reports.last()
    assert node.store.tried == before + 1


async def test_a_store_that_is_away_gets_its_report_later(node, monkeypatch) -> None:
    node.store.refuses = RemoteError("the tracker is away")
    node.offer(FILES)
    node.begin()

    async def tried_thrice() -> bool:
        return node.store.tried >= 4

    await until(tried_thrice)
    node.store.refuses = None

    async def told() -> bool:
        return cut(FILES) in cached(await node.session.ours())

    await until(told)


async def test_whoever_leaves_holds_nothing_any_more(node) -> None:
    node.offer(FILES)
    reports = node.begin()

    async def told() -> bool:
        return cut(FILES) in cached(await node.session.ours())

    await until(told)
    await reports.leaving(node.session)
    assert cached(await node.session.ours()) == {}


async def test_a_store_that_hangs_does_not_hold_up_the_end(node, monkeypatch) -> None:
    from dreamer.daemon.costs import reporting

    monkeypatch.setattr(reporting, "REPORT_LAST_TIMEOUT_S", 0.05)
    reports = node.begin()
    hanging = asyncio.Event()

    async def read():
        hanging.set()
        await asyncio.Event().wait()

    node.store.read = read
    node.offer(FILES)
    async with asyncio.timeout(WAIT_S):
        await reports.last()
    assert hanging.is_set()
