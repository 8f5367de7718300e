"""A member that changes its room's registry again and again: a process of the writers' test.

It has an identity and a membership of its own below ``HOME``, and reaches the registry as a daemon
does: by the daemon's own client of the tracker, or its bucket. It begins when it is told to, and
prints what it met as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import aiohttp

from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.origins import Origins
from dreamer.daemon.rendezvous.session import TrackerSession
from dreamer.daemon.room.book import Membership, RoomBook
from dreamer.daemon.room.bucket_documents import BucketDocuments
from dreamer.daemon.room.registry_client import DocumentStore, RegistryClient
from dreamer.daemon.room.registry_documents import TrackerDocuments
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import ConflictError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.changes import Author, Change, ChangeTags, MoveAlias, Publish
from dreamer.protocol.registry.membership import member_verifier
from dreamer.protocol.registry.statements import ModelEntry
from dreamer.protocol.rooms.card import RegistryPlace
from dreamer.protocol.rooms.membership import chain_to_json

WAIT_S = 60.0
SHARED_ALIAS = "newest"
SHARED_MOVES = 3
"""Of each writer: those of all together must fit into the history that an alias keeps."""


class Counting:
    """A document store, and how often another writer was first."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self.conflicts = 0
        self.in_a_row = self.most_in_a_row = 0

    async def read(self):
        return await self._store.read()

    async def write(self, data: bytes, etag: str | None, /) -> str:
        try:
            written = await self._store.write(data, etag)
        except ConflictError:
            self.conflicts += 1
            self.in_a_row += 1
            self.most_in_a_row = max(self.most_in_a_row, self.in_a_row)
            raise
        self.in_a_row = 0
        return written


@asynccontextmanager
async def at_tracker(membership: Membership, identity: NodeIdentity, rng: Random):
    card = membership.card
    async with aiohttp.ClientSession() as http:
        session = TrackerSession(
            http,
            *(card.trackers[0], card, membership.chain, identity.key, rng),
            lambda event: None,
        )
        running = asyncio.create_task(session.run())
        try:
            await session.wait_connected(WAIT_S)
            yield TrackerDocuments(card, [session], False, rng, TaskSet())
        finally:
            running.cancel()
            await asyncio.wait([running])


@asynccontextmanager
async def at_origin(membership: Membership, identity: NodeIdentity, rng: Random):
    origins = Origins()
    yield BucketDocuments(membership.card.name, origins.registry(membership.card))
    origins.close()


def plan(number: int, changes: int) -> list[Change]:
    """Return a writer's changes, in an order of its own; each leaves one record that stays."""
    own, other = (ManifestId(bytes([number, half]) * 16) for half in (1, 2))
    entries = [ModelEntry(model, f"writer-{number}", 1, 1, "files") for model in (own, other)]
    shared = [MoveAlias(SHARED_ALIAS, (own, other)[turn % 2]) for turn in range(SHARED_MOVES)]
    left = changes - len(entries) - len(shared)
    moves = [MoveAlias(f"writer-{number}", (own, other)[turn % 2]) for turn in range(left // 2)]
    tags = [ChangeTags(own, add=(f"tag-{turn}",)) for turn in range(left - left // 2)]
    kinds = [iter(shared), iter(moves), iter(tags)]
    # Of each kind in order, or a move to where the alias is already would be none.
    order = [0] * len(shared) + [1] * len(moves) + [2] * len(tags)
    Random(number).shuffle(order)
    return [*map(Publish, entries), *(next(kinds[kind]) for kind in order)]


async def write(home: Path, number: int, changes: int) -> dict[str, object]:
    """Make all changes; return what was met."""
    identity = NodeIdentity.load_or_create(home)
    membership = RoomBook(home, identity).list()[0]
    at = at_origin if membership.card.registry is RegistryPlace.ORIGIN else at_tracker
    async with at(membership, identity, Random(number)) as documents:
        store = Counting(documents)
        client = RegistryClient(
            membership.card.room_id,
            store,
            Author(identity.key, chain_to_json(membership.chain)),
            member_verifier(),
        )
        await client.refresh()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        began, longest_s = time.monotonic(), 0.0
        for change in plan(number, changes):
            at_s = time.monotonic()
            await client.change(change)
            longest_s = max(longest_s, time.monotonic() - at_s)
    return {
        "node": identity.node_id.hex(),
        "changes": changes,
        "conflicts": store.conflicts,
        "most_in_a_row": store.most_in_a_row,
        "seconds": time.monotonic() - began,
        "longest_s": longest_s,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))))
