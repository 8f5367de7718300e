"""A tracker that is killed in the midst of writing: what it has acknowledged is there afterwards.

A hundred times over, writers replace the registries of several rooms by compare-and-swap, admins
revoke, nodes enter by invitation, and at a moment drawn by chance the tracker gets SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from dreamer.protocol.ids import NodeId
from dreamer.protocol.rooms.revocations import Revocation
from dreamer.protocol.tracker_limits import (
    TRACKER_ROOM_KEY_REVOCATIONS,
    TRACKER_ROOM_MAX_REVOCATIONS,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

KILLS = 100
ROOMS = 3
WRITERS_PER_ROOM = 2
WORK_MAX_S = 0.15
WAIT_S = 60.0
LOST = (aiohttp.ClientError, ConnectionError, TypeError, TimeoutError)


class Litter:
    """Forks one tracker at a time, on the same data."""

    def __init__(self, data: Path) -> None:
        self._data = data
        script = Path(__file__).with_name("tracker_litter.py")
        self._process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._pid = 0

    def next(self) -> str:
        """Return the URL of a new tracker; the one before must be dead."""
        self._process.stdin.write(f"127.0.0.1:0 {self._data}\n")
        self._process.stdin.flush()
        self._pid = int(self._process.stdout.readline().split()[1])
        return self._process.stdout.readline().rstrip("\n")

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def litter(tmp_path):
    litter = Litter(tmp_path / "data")
    yield litter
    litter.end()


@dataclass
class Book:
    """What the members of one room were told by the tracker, and what they have tried."""

    room: int
    """The seed of the room's key."""
    tried: dict[bytes, str | None] = field(default_factory=dict)
    """Every body ever sent, by the ETag that it was to replace."""
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    """Bodies by the ETag that the tracker gave them."""
    read: dict[str, bytes] = field(default_factory=dict)
    """What was seen to be there: it, too, must stay."""
    revoked: set[str] = field(default_factory=set)
    """Nodes whose revocation was told to all; ``numbers`` is how many there are for certain."""
    numbers: int = 0
    tried_to_revoke: set[str] = field(default_factory=set)

    def parent(self, etag: str) -> str | None:
        """Return the ETag of what the document with this one replaced."""
        body = self.read.get(etag) or self.acknowledged[etag]
        return self.tried[body]

    def check(self, etag: str | None, body: bytes | None, revoked: set[str]) -> None:
        """Compare with what is there after a restart: it must descend from all acknowledged."""
        assert self.revoked <= revoked <= self.tried_to_revoke
        self.numbers = len(revoked)
        if etag is None:
            assert not self.acknowledged
            return
        self.read[etag] = body
        ancestors = {etag}
        while (older := self.parent(etag)) is not None:
            ancestors.add(older)
            etag = older
        assert set(self.acknowledged) <= ancestors
        # One document for each step: no two writers have replaced the same one.
        parents = [self.tried[each] for each in self.acknowledged.values()]
        assert len(parents) == len(set(parents))


class Member:
    """One member of a room while one tracker lives."""

    def __init__(self, at, book: Book, insider, rng: random.Random) -> None:
        self.at, self.book, self.insider, self.rng = at, book, insider, rng
        self.told: list[str] = []

    async def enter(self) -> Member:
        self.talker, self.welcome = await self.insider.enter(self.at)
        return self

    async def hear_revoked(self) -> set[str]:
        """Return the nodes of the revocations that the tracker repeats to a newcomer."""
        await self.talker.say(type="seek", swarm="00" * 20)
        nodes = set()
        while (said := await self.talker.hear())["type"] != "holders":
            if said["type"] == "revoked":
                nodes.add(said["revocation"]["node"])
        return nodes

    async def read(self) -> tuple[str | None, bytes | None]:
        async with self.at.http.get(self._url, headers=self._headers()) as response:
            if response.status == 404:
                return None, None
            body = await response.read()
            assert response.status == 200
            return response.headers["ETag"], body

    async def write(self, etag: str | None) -> None:
        """Replace what has this ETag; if somebody was quicker, nothing happens."""
        filling = self.rng.randbytes(self.rng.randrange(8_000)).hex()
        said = {"replaces": etag, "by": self.insider.hex, "n": self.rng.random(), "x": filling}
        body = json.dumps(said).encode()
        self.book.tried[body] = etag
        condition = {"If-None-Match": "*"} if etag is None else {"If-Match": etag}
        async with self.at.http.put(
            self._url, data=body, headers=self._headers(**condition)
        ) as response:
            assert response.status in (201, 204, 412)
            if response.status != 412:
                self.book.acknowledged[response.headers["ETag"]] = body

    async def revoke(self, number: int) -> None:
        """End the membership of somebody who never came."""
        node = self.rng.randbytes(32)
        unsigned = Revocation(self.insider.room_id, number, NodeId(node), 1, self.insider.chain)
        self.book.tried_to_revoke.add(node.hex())
        await self.talker.say(
            type="revoke", revocation=unsigned.signed_by(self.insider.key).to_json()
        )
        await self.talker.hear_type("revoked")
        self.book.revoked.add(node.hex())

    @property
    def _url(self) -> str:
        return f"{self.at.url}/rooms/{self.insider.room_id.hex()}/registry"

    def _headers(self, **others: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.welcome['session']}", **others}


async def write_until_it_dies(member: Member) -> None:
    with contextlib.suppress(*LOST):
        while True:
            etag, body = await member.read()
            if etag is not None:
                member.book.read[etag] = body
            await member.write(etag)


async def revoke_until_it_dies(member: Member) -> None:
    with contextlib.suppress(*LOST):
        known = member.book.numbers
        if known < TRACKER_ROOM_MAX_REVOCATIONS - TRACKER_ROOM_KEY_REVOCATIONS - 4:
            for number in range(known + 1, known + 4):
                await member.revoke(number)


@asynccontextmanager
async def entered(at, books: list[Book], insider_of, rng, numbers: range):
    """Let the nodes of these numbers into every room."""
    members = [
        await Member(at, book, insider_of(number, book.room), rng).enter()
        for book in books
        for number in numbers
    ]
    try:
        yield members
    finally:
        for member in members:
            await member.talker.close()


async def compare(watchers: list[Member]) -> None:
    """See what the tracker before this one has left."""
    for watcher in watchers:
        watcher.book.check(*(await watcher.read()), await watcher.hear_revoked())


async def live_and_die(at, litter: Litter, books: list[Book], insider_of, rng) -> None:
    """One tracker's life, under load until its sudden end."""
    async with (
        entered(at, books, insider_of, rng, range(1, 2)) as admins,
        entered(at, books, insider_of, rng, range(2, 2 + WRITERS_PER_ROOM)) as writers,
    ):
        await compare(admins)
        work = [asyncio.create_task(write_until_it_dies(each)) for each in writers]
        work += [asyncio.create_task(revoke_until_it_dies(each)) for each in admins]
        asyncio.get_running_loop().call_later(rng.uniform(0.0, WORK_MAX_S), litter.kill)
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(*work)


async def test_killed_tracker_has_lost_nothing_that_it_acknowledged(litter, at_url, insider_of):
    rng = random.Random(9)
    books = [Book(100 + number) for number in range(ROOMS)]
    for _ in range(KILLS):
        async with aiohttp.ClientSession() as http:
            at = at_url(await asyncio.to_thread(litter.next), http)
            await live_and_die(at, litter, books, insider_of, rng)
    async with aiohttp.ClientSession() as http:
        at = at_url(await asyncio.to_thread(litter.next), http)
        async with entered(at, books, insider_of, rng, range(1, 2)) as watchers:
            await compare(watchers)
    # Or else nothing was tested.
    for book in books:
        assert len(book.acknowledged) > KILLS // 4
        assert len(book.revoked) > KILLS // 4
