"""Nodes with real stores and libraries, joined by cables that carry what links carry."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from dreamer.daemon.links.link import Fanout, Link, LinkListener
from dreamer.daemon.origin.faults import OriginMissingError
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.objects import ObjectFetcher
from dreamer.daemon.sharing.pull_job import PullContext, PullJob
from dreamer.daemon.sharing.serving import Serving
from dreamer.daemon.state import State
from dreamer.daemon.store.store import Store
from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.transport.inbox import verify_and_write
from dreamer.daemon.transport.outbox import read_span
from dreamer.daemon.transport.vocabulary import (
    Expect,
    SendControl,
    Serve,
    ServeFailed,
    StopExpecting,
    StopServing,
    ToTransport,
    VerifiedSpan,
)
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.errors import RemoteError, RemoteProtocolError
from dreamer.protocol.ids import Digest, ManifestId, NodeId, RoomId
from dreamer.protocol.limits import MIB
from dreamer.protocol.link.messages import Message, decode, encode
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.holders import Found
from dreamer.protocol.swarm.vocabulary import DiscoveryEnded

ROOM = RoomId(b"r" * 32)
PATIENCE_S = 20.0


async def until(happened: Callable[[], bool]) -> None:
    """Wait until something has happened; fail when it takes too long."""
    async with asyncio.timeout(PATIENCE_S):
        while not happened():
            await asyncio.sleep(0.001)


class Links:
    """What sharing asks of ``RoomLinks``."""

    def __init__(self, own: NodeId) -> None:
        self.own = own
        self.rng = random.Random(1)
        self.coming_up: list[NodeId] = []
        self._ends: dict[NodeId, End] = {}
        self.dropped: list[tuple[NodeId, str]] = []
        self.closed = False

    @property
    def links(self) -> list[Link]:
        return [end.link for end in self._ends.values()]

    def link(self, peer: NodeId) -> Link | None:
        end = self._ends.get(peer)
        return end.link if end else None

    def connect(self, peer: NodeId) -> None:
        """Cables are laid by the tests."""

    def drop(self, peer: NodeId, reason: str) -> None:
        self.dropped.append((peer, reason))
        if end := self._ends.get(peer):
            end.cut(reason)


class Heard(LinkListener):
    """All messages that reach a node."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def message(self, link: Link, message: Message) -> None:
        self.messages.append(message)


class Node:
    """A member: its store, what it offers, and its listeners."""

    def __init__(self, root: Path, number: int) -> None:
        self.id = NodeId(bytes([number]) * 32)
        self.state = State(root / f"state{number}.db")
        self.store = Store(root / f"models{number}", self.state)
        self.library = Library()
        self.tasks = TaskSet()
        self.fanout = Fanout()
        self.links = Links(self.id)
        self.numbers = itertools.count(1)
        self.objects = ObjectFetcher(self.numbers)
        self.heard = Heard()
        self.damaged: list[ManifestId] = []
        self.punished: list[NodeId] = []
        self.serving = Serving(ROOM, self.library, self.store, self.damaged.append, self.tasks)
        for listener in (self.objects, self.serving, self.heard):
            self.fanout.add(listener)
        # How it sends blocks: as they are, unless a test has it otherwise.
        self.tamper: Callable[[bytes], bytes] = lambda data: data
        self.stuck = False
        self.sent_blocks = 0

    def punish(self, node: NodeId, reason: str) -> None:
        self.punished.append(node)
        self.links.drop(node, reason)

    async def close(self) -> None:
        await self.tasks.close()
        self.store.close()
        self.state.close()

    def ingest(self, path: Path) -> Manifest:
        _, manifest = self.store.ingest(path, lambda done, total: None, threading.Event())
        return manifest

    def offer(self, manifest: Manifest, blocks: int | None = None) -> None:
        held = bitfield.full(manifest.block_count) if blocks is None else blocks
        self.library.offer(ROOM, manifest.id, manifest, held)

    def context(self, origin: object = None) -> PullContext:
        return PullContext(
            room=ROOM,
            links=self.links,
            library=self.library,
            origin=origin,
            punish=self.punish,
            numbers=self.numbers,
            rng=random.Random(1),
            tasks=self.tasks,
        )


@dataclass
class End:
    """One end of a cable; what the transport process does for a link."""

    node: Node
    number: int
    far: End | None = None
    expected: dict[tuple[int, int], VerifiedSpan] = field(default_factory=dict)
    queue: deque[tuple[int, tuple[int, str, int, int]]] = field(default_factory=deque)

    def plug(self, far: End) -> None:
        self.far = far
        self.link = Link(self.number, ROOM, far.node.id, False, {"name": "peer"}, self.take, 0.0)
        self.node.links._ends[far.node.id] = self

    def take(self, command: ToTransport) -> None:
        """A TransportPort's ``send``."""
        match command:
            case SendControl(_, data) if self.far is not None:
                self.later(self.far.hear, data)
            case Serve(_, request, spans):
                self.queue.extend((request, span) for span in spans)
                self.later(self.send_next)
            case StopServing(_, request, block):
                before = {q[0] for q in self.queue}
                self.queue = deque(q for q in self.queue if not _stopped(q, request, block))
                if before - {q[0] for q in self.queue}:
                    self.later(self.node.fanout.serve_ended, self.link, request, None)
            case Expect(_, request, spans):
                self.expected |= {(request, span[0]): span for span in spans}
            case StopExpecting(_, request, block):
                for key in list(self.expected):
                    if key[0] == request and block in (-1, key[1]):
                        del self.expected[key]

    def later(self, happen: Callable[..., None], *what: object) -> None:
        asyncio.get_running_loop().call_soon(happen, *what)

    def hear(self, data: bytes) -> None:
        if self.far is None:
            return
        try:
            self.node.fanout.message(self.link, decode(data))
        except RemoteProtocolError as error:
            self.cut(str(error))

    def say(self, message: Message) -> None:
        """Have this end say what its own code would not."""
        self.take(SendControl(self.number, encode(message)))

    def send_next(self) -> None:
        if self.far is None or self.node.stuck or not self.queue:
            return
        request, (block, path, offset, length) = self.queue.popleft()
        try:
            data = self.node.tamper(read_span(path, offset, length))
        except OSError as error:
            self.queue = deque(q for q in self.queue if q[0] != request)
            failed = ServeFailed(self.number, request, path, str(error))
            self.node.fanout.serve_ended(self.link, request, failed)
        else:
            self.node.sent_blocks += 1
            self.later(self.far.arrive, request, block, data)
            if all(other != request for other, _ in self.queue):
                self.node.fanout.serve_ended(self.link, request, None)
        self.later(self.send_next)

    def arrive(self, request: int, block: int, data: bytes) -> None:
        span = self.expected.pop((request, block), None)
        if self.far is None or span is None:
            return
        self.node.fanout.bytes_arrived(self.link, len(data))
        verdict = verify_and_write(span, bytearray(data))
        self.node.fanout.block_done(self.link, request, block, verdict)

    def cut(self, reason: str) -> None:
        """Both ends lose their link."""
        far, self.far = self.far, None
        if far is not None:
            far.cut(reason)
            del self.node.links._ends[far.node.id]
            self.node.fanout.link_down(self.link, reason)


def _stopped(queued: tuple[int, tuple[int, str, int, int]], request: int, block: int) -> bool:
    return queued[0] == request and block in (-1, queued[1][0])


class World:
    """Nodes and cables of one test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.nodes: list[Node] = []
        self._cables = itertools.count(1)

    def node(self) -> Node:
        self.nodes.append(Node(self.root, len(self.nodes) + 1))
        return self.nodes[-1]

    def join(self, one: Node, other: Node) -> tuple[End, End]:
        number = next(self._cables)
        ends = End(one, number), End(other, number)
        ends[0].plug(ends[1])
        ends[1].plug(ends[0])
        for end in ends:
            end.node.fanout.link_up(end.link)
        return ends

    def files(self, contents: dict[str, bytes], name: str = "source") -> Path:
        for path, data in contents.items():
            target = self.root / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return self.root / name


class Pulling:
    """A pull job and all that the puller does around one."""

    def __init__(self, node: Node, manifest: Manifest, giver: Node, origin: object = None) -> None:
        outboard = giver.store.outboard(manifest)
        assert outboard is not None
        self.node = node
        self.manifest = manifest
        self.download = node.store.open_download(
            manifest, outboard, lambda done, total: None, threading.Event()
        )
        self.job = PullJob(node.context(origin), manifest.id, self.download)

    async def run(self) -> None:
        self.node.fanout.add(self.job)
        ended = asyncio.get_running_loop().call_later(0.05, self.job.feed, DiscoveryEnded())
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.job.run()
        finally:
            ended.cancel()
            self.node.fanout.remove(self.job)
            await self.node.tasks.close()
            self.download.close()

    @property
    def whole(self) -> bool:
        return self.node.store.complete(self.manifest)


class PlainForms:
    """Every file is kept as it is."""

    def known(self, digest: Digest) -> bool:
        return False

    def forget(self, digest: Digest) -> None:
        """There is nothing to ask again."""

    def note_plain(self, digest: Digest) -> None:
        """It is known."""

    def table(self, entry: object, stop: object, arrived: object = None) -> None:
        raise OriginMissingError("the origin has no file in that form")


class MemoryOrigin:
    """An origin over another node's store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.forms = PlainForms()
        self.bytes = 0
        self.tamper: Callable[[bytes], bytes] = lambda data: data

    def fetch_object(self, digest: Digest, stop: object = None) -> bytes:
        data = self.store.get_object(digest)
        if data is None:
            raise RemoteError("the origin has no such object")
        return data

    def read(
        self, digest: Digest, offset: int, length: int, stop: threading.Event
    ) -> Iterator[bytes]:
        data = self.store.file(digest).read_bytes()[offset : offset + length]
        for at in range(0, length, MIB // 4):
            piece = data[at : at + MIB // 4]
            self.bytes += len(piece)
            yield self.tamper(piece)


def model_of(manifest: Manifest, name: str = "tiny") -> SimpleNamespace:
    """Return what a registry says of a model, as far as pulls look at it."""
    return SimpleNamespace(manifest_id=manifest.id, name=name, size_bytes=manifest.size_bytes)


def session_of(node: Node, holders: list[Node] = ()) -> SimpleNamespace:
    """Return a room session, as far as pulls look at it."""

    async def found(manifest_id: ManifestId) -> Found:
        return Found(tuple(holder.id for holder in holders))

    async def connected() -> None:
        """The tracker is there."""

    return SimpleNamespace(
        room_id=ROOM,
        card=SimpleNamespace(room_id=ROOM, name="room", origin=None),
        fanout=node.fanout,
        present={},
        links=node.links,
        objects=node.objects,
        seek=found,
        wait_connected=connected,
        punish=node.punish,
        part=lambda peer: node.links.drop(peer, "others need it more"),
    )


CONTENTS = {
    "config.json": b'{"layers": 2}',
    "empty.txt": b"",
    "weights.bin": random.Random(1).randbytes(5 * MIB + 77),
    "sub/more.bin": random.Random(2).randbytes(2 * MIB),
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    for node in made.nodes:
        await node.close()


@pytest.fixture
def sharing_contents() -> dict[str, bytes]:
    return dict(CONTENTS)


@dataclass
class Kit:
    """The helpers above, for tests of this folder."""

    until = staticmethod(until)
    pulling = Pulling
    memory_origin = MemoryOrigin
    model_of = staticmethod(model_of)
    session_of = staticmethod(session_of)
    room = ROOM


@pytest.fixture
def kit() -> Kit:
    return Kit()


@dataclass
class Two:
    """A node that holds a model, one that does not, and the cable between them."""

    giver: Node
    taker: Node
    manifest: Manifest
    giver_end: End
    taker_end: End


@pytest.fixture
async def two(world: World) -> Two:
    giver, taker = world.node(), world.node()
    manifest = giver.ingest(world.files(CONTENTS))
    giver.offer(manifest)
    return Two(giver, taker, manifest, *world.join(giver, taker))
