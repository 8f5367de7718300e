"""A team on loopback: one tracker, one S3 server, and nodes as real processes.

The tracker and the S3 server serve the whole run; ``lab`` gives each test module three nodes of its
own, A, B and C, in room ``lab`` (no origin) and room ``depot`` (with one).
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import struct
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest

from dreamer.daemon.client import Dreamer
from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.rendezvous.session import TrackerSession
from dreamer.daemon.room.book import Membership, RoomBook
from dreamer.daemon.room.registry_client import RegistryClient
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.changes import Author, Publish
from dreamer.protocol.registry.statements import ModelEntry
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.protocol.rooms.membership import chain_to_json, parse_chain, verify_chain
from dreamer.simulations.loopback import Node, s3_client, s3_server, tracker, until

MIB = 2**20
BUCKET = "models"
WAIT_S = 60.0
STARTS_AT_ONCE = 4


class Nodes:
    """Makes nodes below one directory, and ends them all together."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.root = root
        self._stack = stack
        self._made: dict[str, Node] = {}

    def node(self, name: str, *options: str, env: dict[str, str] | None = None) -> Node:
        """Start a node that is in no room yet."""
        if (first := self._made.get(name)) is not None:
            self._forget(first)
        node = self._stack.enter_context(Node(self.root / name, *options, env=env))
        self._made[name] = node
        return node

    def nodes(self, *names: str, env: dict[str, str] | None = None) -> list[Node]:
        """Start several at once: each waits for its own processes as much as it works."""
        with ThreadPoolExecutor(STARTS_AT_ONCE) as pool:
            return list(pool.map(lambda name: self.node(name, env=env), names))

    def ask_to_end(self) -> None:
        """Send all nodes SIGTERM: they part together, and whoever waits for each waits once."""
        for node in self._made.values():
            node.process.terminate()

    def _forget(self, first: Node) -> None:
        """Take away the node of a test's first try: the second begins where the first began."""
        first.process.kill()
        first.process.log.unlink()
        shutil.rmtree(first.home)

    @staticmethod
    def fresh(directory: Path) -> Path:
        """Return a directory as a new one, whatever a test's first try left there."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        return directory


class Team(Nodes):
    """Makes nodes, rooms and models below one directory; ends every node with the module."""

    def __init__(self, root: Path, tracker_url: str, endpoint_url: str, stack: ExitStack) -> None:
        super().__init__(root, stack)
        self.tracker = tracker_url
        self.endpoint = endpoint_url
        self._seeds = random.Random(root.name)

    def member(self, name: str, *keepers: Node, room: str = "lab", **options) -> Node:
        """Start a node and let it join ``room`` with a token of each of ``keepers``."""
        node = self.node(name, **options)
        for keeper in keepers:
            self.join(node, keeper, room)
        return node

    def join(self, node: Node, keeper: Node, room: str = "lab", *roles: str) -> None:
        """Let a node join a room by invitation."""
        # By the client, for speed: the commands themselves are tested once.
        Dreamer(node.home).join_room(Dreamer(keeper.home).invite(room, roles))

    def room(self, keeper: Node, name: str, *, origin: bool = False) -> None:
        """Make a room, with an origin of its own or with none."""
        options = ()
        if origin:
            place = f"s3://{BUCKET}/{self.root.name}-{name}"
            options = ("--origin", place, "--endpoint-url", self.endpoint)
        keeper.dreamer("room", "create", name, "--tracker", self.tracker, *options)

    def model(self, name: str, *sizes: int) -> Path:
        """Write a directory with a file of random bytes for each size."""
        directory = self.fresh(self.root / "sources" / name)
        for number, size in enumerate(sizes):
            # A repeated megabyte, told apart by its number: making it must cost nothing.
            seed = self._seeds.randbytes(MIB - 4)
            with (directory / f"part-{number}.bin").open("wb") as file:
                for done in range(0, size, MIB):
                    file.write((struct.pack("<I", done // MIB) + seed)[: size - done])
        return directory

    def s3(self):
        """Return a boto3 client for the origin."""
        return s3_client(self.endpoint)


def content(place: Path) -> dict[str, bytes]:
    """Return every file below a directory, by its relative path."""
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def bytes_down(node: Node) -> int:
    """Return the payload that a node's present links have brought, verified or not."""
    return sum(peer.bytes_down for peer in Dreamer(node.home).peers())


class Watch:
    """What tests wait for and look at."""

    content = staticmethod(content)
    bytes_down = staticmethod(bytes_down)

    @staticmethod
    def moved(receipt: dict) -> int:
        """Return the bytes that a pull took from anybody."""
        return sum(size for lane, size in receipt["bytes"].items() if lane != "cache")

    @staticmethod
    def pulling(node: Node, more_than: int) -> None:
        """Wait until a pull under way has brought that many bytes over links."""
        before = bytes_down(node)
        until(lambda: bytes_down(node) > before + more_than, "the first blocks", WAIT_S)

    @staticmethod
    def without(node: Node, other: Node) -> None:
        """Wait until a node no longer sees another."""
        name = other.home.name

        def gone() -> bool:
            return all(peer.name != name for peer in Dreamer(node.home).peers())

        until(gone, f"{node.home.name} missing {name}", WAIT_S)

    @staticmethod
    @contextmanager
    def frozen(node: Node) -> Iterator[None]:
        """Halt every process of a node: it hangs, but its connections stand."""
        with Watch.halted(psutil.Process(node.process.pid)):
            yield

    @staticmethod
    @contextmanager
    def origin_frozen() -> Iterator[None]:
        """Halt the S3 server, which answers nobody meanwhile."""
        servers = psutil.Process().children()
        (server,) = (one for one in servers if any("moto_server" in w for w in one.cmdline()))
        with Watch.halted(server):
            yield

    @staticmethod
    @contextmanager
    def halted(parent: psutil.Process) -> Iterator[None]:
        """Halt a process and its children for a while."""
        family = [parent, *parent.children(recursive=True)]
        for process in family:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in family:
                process.send_signal(signal.SIGCONT)

    @staticmethod
    def one_line(answer, *words: str) -> str:
        """Check that a command failed with one clear line on stderr; return it."""
        assert answer.status != 0, answer.out
        assert answer.out == ""
        assert "Traceback" not in answer.err
        lines = [line for line in answer.err.splitlines() if line.startswith("dreamer: ")]
        assert len(lines) == 1, answer.err
        assert answer.err.splitlines()[-1] == lines[0]
        for word in words:
            assert word in lines[0]
        return lines[0]


@pytest.fixture(scope="session")
def watch():
    return Watch


@pytest.fixture(scope="session")
def bucket(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "s3.log", BUCKET) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def services(bucket, tmp_path_factory):
    # A tracker each: from one address it takes only so many new rooms an hour.
    with tracker(tmp_path_factory.mktemp("services") / "tracker") as url:
        yield url, bucket


@pytest.fixture(scope="module")
def nodes_below():
    """Return ``nodes_below(directory)``: what makes nodes there, and ends them with the module."""
    with ExitStack() as stack:
        made = []

        def below(root: Path) -> Nodes:
            made.append(Nodes(root, stack))
            return made[-1]

        yield below
        for each in made:
            each.ask_to_end()


@pytest.fixture(scope="module")
def team(services, tmp_path_factory, request):
    # The paths of Unix sockets must be short.
    root = tmp_path_factory.mktemp(request.module.__name__.rpartition("test_")[2][:12])
    with ExitStack() as stack:
        made = Team(root, *services, stack)
        yield made
        made.ask_to_end()


@pytest.fixture(scope="module")
def lab(team):
    """Return the nodes A, B and C; A made both rooms."""
    a, b, c = team.nodes("A", "B", "C")
    team.room(a, "lab")
    team.room(a, "depot", origin=True)
    for node in (b, c):
        team.join(node, a, "lab")
        team.join(node, a, "depot")
    return a, b, c


class AtTracker:
    """A member's own hand at the room's registry, past everything that its daemon would check."""

    def __init__(self, session: TrackerSession, membership: Membership, key: SigningKey) -> None:
        self.session = session
        self.membership = membership
        self.key = key

    @classmethod
    @asynccontextmanager
    async def of(cls, node: Node, room: str) -> AsyncIterator[AtTracker]:
        """Log in with the identity of a node that is stopped."""
        identity = NodeIdentity.load_or_create(node.home)
        membership = RoomBook(node.home, identity).get(room)
        card = membership.card
        async with aiohttp.ClientSession() as http:
            session = TrackerSession(
                http,
                *(card.trackers[0], card, membership.chain, identity.key, random.Random(1)),
                lambda event: None,
            )
            running = asyncio.create_task(session.run())
            try:
                await session.wait_connected(WAIT_S)
                yield cls(session, membership, identity.key)
            finally:
                running.cancel()
                await asyncio.wait([running])

    async def read(self) -> tuple[bytes, str]:
        """Return the document and its ETag."""
        found = await self.session.read_registry()
        assert found is not None
        return found

    async def replace(self, data: bytes) -> None:
        """Put any document in place of the one that is there."""
        _, etag = await self.read()
        await self.session.write_registry(data, etag)

    async def publish(self, manifest_id: bytes, name: str) -> None:
        """Sign and publish an entry for a model that may not even be one."""
        chain = chain_to_json(self.membership.chain)

        def believe(room, chain, now):
            return verify_chain(room, parse_chain(list(chain)), now)

        client = RegistryClient(
            self.membership.card.room_id, self, Author(self.key, chain), believe
        )
        await client.change(Publish(ModelEntry(ManifestId(manifest_id), name, 1, 1, "files")))

    async def write(self, data: bytes, etag: str) -> str:
        """Be the document store that the registry client writes to."""
        return await self.session.write_registry(data, etag)


@pytest.fixture(scope="session")
def at_tracker():
    return AtTracker.of
