"""Two members with real ports on 127.0.0.1; their control channels are wires in memory."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from blake3 import blake3

from dreamer.daemon.direct.certificate import dialling_context
from dreamer.daemon.direct.endpoint import DirectEndpoint
from dreamer.daemon.direct.lane import DirectLane
from dreamer.daemon.direct.room import DirectRoom
from dreamer.daemon.links.link import Fanout, Link, LinkListener
from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.transport.vocabulary import SendControl, ServeFailed, Span, VerifiedSpan
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.limits import MIB
from dreamer.protocol.link.direct import DIRECT, HEADER, DirectAnswer, DirectOpen
from dreamer.protocol.link.messages import Message, decode, encode

ROOM = RoomId(b"r" * 32)
PATIENCE_S = 20.0


async def until(happened: Callable[[], bool]) -> None:
    """Wait until something has happened; fail when it takes too long."""
    async with asyncio.timeout(PATIENCE_S):
        while not happened():
            await asyncio.sleep(0.001)


class Heard(LinkListener):
    """What the listeners of a room are told."""

    def __init__(self) -> None:
        self.verdicts: dict[tuple[int, int], str] = {}
        self.ended: list[tuple[int, ServeFailed | None]] = []
        self.lanes: list[str] = []
        self.arrived_bytes = 0

    def lane_changed(self, link: Link) -> None:
        self.lanes.append(link.asked_over.value)

    def block_done(self, link: Link, request: int, block: int, verdict: str) -> None:
        assert (request, block) not in self.verdicts
        self.verdicts[request, block] = verdict

    def bytes_arrived(self, link: Link, size_bytes: int) -> None:
        self.arrived_bytes += size_bytes

    def serve_ended(self, link: Link, request: int, failed: ServeFailed | None) -> None:
        self.ended.append((request, failed))


class Member:
    """One end of a link, with its direct lane."""

    def __init__(self, number: int, endpoint: DirectEndpoint) -> None:
        self.id = NodeId(bytes([number]) * 32)
        self.endpoint = endpoint
        self.fanout = Fanout()
        self.heard = Heard()
        self.tasks = TaskSet()
        self.now = 1000.0
        self.dropped: list[str] = []
        self.said: list[Message] = []
        self.deaf = False
        self.far: Member | None = None
        # What becomes of a message on its way out; None: it is lost.
        self.tamper: Callable[[Message], Message | None] = lambda message: message
        self.lane = DirectLane(
            DirectRoom(
                *(endpoint, self.id, self.fanout, self.drop, self.tasks),
                *(random.Random(number), lambda: self.now, asyncio.get_running_loop()),
            )
        )
        for one in (self.lane, self.heard):
            self.fanout.add(one)

    def plug(self, far: Member, capable: bool = True) -> None:
        self.far = far
        capabilities = {DIRECT: 1} if capable else {}
        self.link = Link(1, ROOM, far.id, False, capabilities, self._send, self.now)

    def drop(self, peer: NodeId, reason: str) -> None:
        self.dropped.append(reason)
        self.fanout.link_down(self.link, reason)

    def _send(self, command: object) -> None:
        assert isinstance(command, SendControl)
        message = self.tamper(decode(command.data))
        if message is None:
            return
        self.said.append(message)
        assert self.far is not None
        asyncio.get_running_loop().call_soon(self.far.hear, encode(message))

    def hear(self, data: bytes) -> None:
        if self.deaf or self.dropped:
            return
        try:
            self.fanout.message(self.link, decode(data))
        except RemoteProtocolError as error:
            self.drop(self.link.peer, str(error))

    async def close(self) -> None:
        self.fanout.link_down(self.link, "the test is over")
        self.lane.close()
        await self.tasks.close()
        await self.endpoint.close()


class Pair:
    """A taker, who asks for blocks, and a giver; blocks of random bytes in a file."""

    def __init__(self, taker: Member, giver: Member, root: Path) -> None:
        self.taker = taker
        self.giver = giver
        self.root = root
        self.source = root / "source"
        self.target = root / "target"
        self.content = b""

    def blocks(self, sizes: list[int]) -> tuple[list[Span], list[VerifiedSpan]]:
        """Write the source; return the spans of both sides."""
        rng = random.Random(7)
        pieces = [rng.randbytes(size) for size in sizes]
        self.content = b"".join(pieces)
        self.source.write_bytes(self.content)
        self.target.write_bytes(bytes(len(self.content)))
        given: list[Span] = []
        taken: list[VerifiedSpan] = []
        offset = 0
        for number, piece in enumerate(pieces):
            given.append((number, str(self.source), offset, len(piece)))
            digest = blake3(piece).digest()
            taken.append((number, str(self.target), offset, len(piece), digest))
            offset += len(piece)
        return given, taken

    async def up(self) -> None:
        """Bring the direct connection up."""
        self.taker.link.want_direct()
        await until(lambda: self.taker.link.direct is not None)
        await until(lambda: self.giver.link.direct_up is not None)

    def ask(self, request: int, given: list[Span], taken: list[VerifiedSpan]) -> None:
        """Have the taker expect blocks and the giver serve them."""
        assert self.taker.link.direct is not None
        assert self.giver.link.direct_up is not None
        self.taker.link.direct.expect(request, taken)
        self.giver.link.direct_up.serve(request, given)

    async def moved(self, request: int, count: int) -> None:
        """Wait until so many blocks of a request have a verdict."""

        def there() -> bool:
            return sum(asked == request for asked, _ in self.taker.heard.verdicts) >= count

        await until(there)


@dataclass
class Hand:
    """A peer's end of a direct connection, played by hand; blocking, so called in threads."""

    taker: Member
    socks: list[ssl.SSLSocket] = field(default_factory=list)

    def dial(self) -> ssl.SSLSocket:
        """Connect with TLS, and say nothing yet."""
        plain = socket.create_connection(("127.0.0.1", self.taker.endpoint.port), PATIENCE_S)
        sock = dialling_context().wrap_socket(plain)
        self.socks.append(sock)
        return sock

    def say(self, token: bytes) -> bytes:
        """Connect and say a token; return the answer, empty if it is hung up on."""
        try:
            sock = self.dial()
            sock.sendall(token)
            return sock.recv(1)
        except OSError:
            return b""

    def send_block(self, request: int, block: int, data: bytes, length: int | None = None) -> None:
        """Send a block over the connection that was accepted."""
        header = HEADER.pack(request, block, len(data) if length is None else length)
        self.socks[-1].sendall(header + data)

    def close(self) -> None:
        for sock in self.socks:
            sock.close()


class Kit:
    """The helpers above, for tests of this folder."""

    until = staticmethod(until)
    mib = MIB

    @staticmethod
    async def opening(taker: Member) -> DirectOpen:
        """Have a member ask for a connection; return what it said."""
        taker.link.want_direct()
        return next(said for said in taker.said if isinstance(said, DirectOpen))

    @staticmethod
    def answers(giver: Member) -> list[DirectAnswer]:
        """Return what a member answered."""
        return [said for said in giver.said if isinstance(said, DirectAnswer)]

    @staticmethod
    async def within(awaited: Awaitable[object], seconds: float = PATIENCE_S) -> None:
        async with asyncio.timeout(seconds):
            await awaited

    @staticmethod
    def soon() -> float:
        return time.monotonic() + PATIENCE_S


@pytest.fixture
def kit() -> Kit:
    return Kit()


MakePair = Callable[..., Awaitable[Pair]]


@pytest.fixture
async def make_pair(tmp_path: Path) -> AsyncIterator[MakePair]:
    """Return what makes two linked members that listen on loopback, or where a test says."""
    made: list[Member] = []

    async def make(host: str = "127.0.0.1", capable: bool = True) -> Pair:
        made.extend([Member(number, await DirectEndpoint.open(host, 0)) for number in (1, 2)])
        taker, giver = made[-2:]
        taker.plug(giver, capable)
        giver.plug(taker, capable)
        for member in (taker, giver):
            member.fanout.link_up(member.link)
        return Pair(taker, giver, tmp_path)

    yield make
    for member in made:
        await member.close()


@pytest.fixture
async def pair(make_pair: MakePair) -> Pair:
    return await make_pair()


@pytest.fixture
async def hand(pair: Pair) -> AsyncIterator[Hand]:
    """Return the giver's end, to be played by hand: the giver itself hears nothing."""
    pair.giver.deaf = True
    played = Hand(pair.taker)
    yield played
    played.close()
