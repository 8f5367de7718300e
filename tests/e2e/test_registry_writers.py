"""Sixteen members change one registry at once, each a process of its own: nothing is lost.

Run with ``-rP`` to see what was counted.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.origins import Origins
from dreamer.daemon.room.book import RoomBook
from dreamer.daemon.room.bucket_documents import BucketDocuments
from dreamer.protocol.registry.document import parse
from dreamer.protocol.registry.membership import member_verifier
from dreamer.protocol.registry.verify import verify
from dreamer.protocol.rooms.card import RegistryPlace
from dreamer.simulations.loopback import S3_CREDENTIALS, Process, s3_client, tracker

# Sixteen processes on few cores: minutes may not be enough where others work, too.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
WRITERS, CHANGES, SHARED_MOVES = 16, 50, 3
DEADLINE_S = 540.0


@contextmanager
def serial_s3(root: Path):
    """Run moto so that it can't break its own preconditions; yields its URL."""
    argv = [sys.executable, str(HERE / "one_at_a_time_s3.py")]
    with Process(argv, root / "s3.log") as process:
        url = process.start(r"Running on (http://\S+)").group(1)
        client = s3_client(url)
        client.create_bucket(Bucket="models")
        yield url
        client.close()


class Crowd:
    """A room, and writers that are members of it."""

    def __init__(self, root: Path, stack: ExitStack, place: str) -> None:
        self._root = root
        self._stack = stack
        self.identity = NodeIdentity.load_or_create(root / "keeper")
        self.book = RoomBook(root / "keeper", self.identity)
        where: tuple = ((), None, None)
        if place == "origin":
            where = ((), "s3://models/lab", stack.enter_context(serial_s3(root)))
        else:
            where = ((stack.enter_context(tracker(root / "tracker")),), None, None)
        now = time.time()
        self.room = self.book.create("lab", *where, now, RegistryPlace(place))

    def writer(self, number: int) -> subprocess.Popen:
        """Start a writer; it waits for a word before it changes anything."""
        home = self._root / f"writer-{number}"
        book = RoomBook(home, NodeIdentity.load_or_create(home))
        token = self.book.invite("lab", ["member", "publisher"], 3600.0, 1, time.time())
        book.add(book.accept(token, time.time()))
        argv = [sys.executable, str(HERE / "registry_writer.py"), str(home), str(number)]
        process = subprocess.Popen(
            [*argv, str(CHANGES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._stack.callback(ended, process)
        return process

    async def document(self) -> bytes:
        """Return the registry as it is stored in the end."""
        card = self.room.card
        if card.registry is RegistryPlace.ORIGIN:
            origins = Origins()
            stored = await BucketDocuments(card.name, origins.registry(card)).read()
            origins.close()
        else:
            stored = await self._at_tracker()
        assert stored is not None
        return stored[0]

    async def _at_tracker(self):
        # By the same hands as the writers'.
        sys.path.insert(0, str(HERE))
        try:
            from registry_writer import at_tracker
        finally:
            sys.path.remove(str(HERE))
        from random import Random

        async with at_tracker(self.room, self.identity, Random(0)) as documents:
            return await documents.read()


def ended(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    for name, value in S3_CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["tracker", "origin"])
def crowd(request, tmp_path):
    with ExitStack() as stack:
        yield Crowd(tmp_path, stack, request.param)


def test_sixteen_writers_lose_none_of_fifty_changes_each(crowd, request):
    writers = [crowd.writer(number) for number in range(1, WRITERS + 1)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    said = [json.loads(writer.communicate(timeout=DEADLINE_S)[0]) for writer in writers]
    conflicts, changes = sum(one["conflicts"] for one in said), WRITERS * CHANGES
    print(
        f"{request.node.name}: {changes} changes in {max(one['seconds'] for one in said):.1f} s, "
        f"{conflicts} conflicts, each followed by another try; the longest change took "
        f"{max(one['longest_s'] for one in said):.1f} s and "
        f"{max(one['most_in_a_row'] for one in said)} tries in vain"
    )
    # Writers that never met would show nothing.
    assert conflicts > WRITERS
    document = parse(asyncio.run(crowd.document()), crowd.room.card.room_id)
    verified = verify(document, member_verifier(), time.time())
    assert verified.reports == ()
    # Every change is there, once: each left one record, under a number of its own.
    assert sorted(record.serial for record in document.records()) == [*range(1, changes + 1)]
    assert Counter(record.by.hex() for record in document.records()) == {
        one["node"]: CHANGES for one in said
    }
    read_history(verified.registry, [one["node"] for one in said])


def read_history(registry, nodes: list[str]) -> None:
    """Read who did what when: all moves of each alias in order, and all tags."""
    shared = registry.history["newest"]
    assert Counter(move.by.hex() for move in shared) == dict.fromkeys(nodes, SHARED_MOVES)
    for number, node in enumerate(nodes, 1):
        moves = registry.history[f"writer-{number}"]
        # To and fro: one that were lost or made twice would show.
        assert all(one.said.manifest_id != other.said.manifest_id for one, other in pairwise(moves))
        assert {move.by.hex() for move in moves} == {node}
    for moves in registry.history.values():
        assert all(one.serial < other.serial for one, other in pairwise(moves))
        assert all(move.at > 0 for move in moves)
    tags = [len(model.tags) for model in registry.models.values() if model.tags]
    left = CHANGES - 2 - SHARED_MOVES
    assert tags == [left - left // 2] * WRITERS
