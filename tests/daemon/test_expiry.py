"""When a temporary upload ends, the copy here is the first to go; other rooms' models are not."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from dreamer.daemon.room.expiry import ExpiryWatch
from dreamer.protocol.errors import LocalError
from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.registry.view import Model, Registry

DEADLINE_S = 10.0
A, B = ManifestId(b"a" * 32), ManifestId(b"b" * 32)


def model(manifest_id, expires_at):
    node = NodeId(b"n" * 32)
    return Model(manifest_id, "set", 5, 1, "files", node, 1.7e9, expires_at=expires_at)


class Session:
    """A room's registry that the test changes."""

    def __init__(self, *models):
        self.registry_changed = []
        self.registry = self
        self.now_says(*models)

    def now_says(self, *models):
        self.says = Registry(models={one.manifest_id: one for one in models})
        for listener in self.registry_changed:
            listener()

    async def recall(self):
        return None if self.says is None else SimpleNamespace(registry=self.says)


class Store:
    """Notes what it is told of uses."""

    def __init__(self):
        self.told = []
        self.heard = asyncio.Event()
        self.fails = False

    def used(self, manifest_id, at=None):
        self.told.append((manifest_id, at))
        self.loop.call_soon_threadsafe(self.heard.set)
        if self.fails:
            raise LocalError("the disk is gone")


@pytest.fixture
async def watched():
    """Watch a room of several; returns the store and how to start."""
    tasks = []
    store = Store()
    store.loop = asyncio.get_running_loop()

    def watch(*sessions):
        rooms = SimpleNamespace(sessions=list(sessions))
        tasks.append(asyncio.create_task(ExpiryWatch(sessions[0], rooms, store).run()))
        return store

    yield watch
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def heard(store):
    async with asyncio.timeout(DEADLINE_S):
        await store.heard.wait()
    store.heard.clear()


async def test_what_ends_is_marked_as_used_longest_ago(watched):
    room = Session(model(A, time.time() + 0.2), model(B, None))
    store = watched(room)
    await heard(store)
    assert store.told == [(A, 0.0)]
    # Told once, whatever else the registry says.
    room.now_says(model(A, time.time() - 1), model(B, time.time() - 1))
    await heard(store)
    assert store.told == [(A, 0.0), (B, 0.0)]


async def test_what_another_room_still_has_keeps_its_place(watched):
    room = Session(model(A, time.time() - 1), model(B, time.time() - 1))
    store = watched(room, Session(model(A, None)), Session())
    await heard(store)
    assert store.told == [(B, 0.0)]


async def test_a_failing_disk_does_not_end_the_watch(watched):
    room = Session(model(A, time.time() - 1))
    store = watched(room)
    store.fails = True
    await heard(store)
    room.now_says(model(B, time.time() - 1))
    await heard(store)
    assert store.told == [(A, 0.0), (B, 0.0)]
