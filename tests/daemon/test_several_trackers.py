"""Nodes in a room of two real trackers, which come and go; only the links are left out."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack

import aiohttp
import pytest

from dreamer.daemon.rendezvous import revocation_couriers
from dreamer.protocol.errors import RemoteError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.changes import MoveAlias, Publish
from dreamer.protocol.registry.statements import ModelEntry
from dreamer.protocol.rooms.card import swarm_hash
from dreamer.tracker.app import Tracker
from dreamer.tracker.room.documents import Documents

DEADLINE_S = 20.0
STEP_S = 0.01
MODEL = ManifestId(b"m" * 32)


async def until(happened, what: str) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not happened():
                await asyncio.sleep(STEP_S)
    except TimeoutError:
        raise AssertionError(f"{what} did not happen") from None


class Requests:
    """How many HTTP requests of the nodes are under way."""

    def __init__(self) -> None:
        self.count = 0
        self.trace = aiohttp.TraceConfig()
        self.trace.on_request_start.append(self._began)
        self.trace.on_request_end.append(self._ended)
        self.trace.on_request_exception.append(self._ended)

    async def _began(self, *_) -> None:
        self.count += 1

    async def _ended(self, *_) -> None:
        self.count -= 1


class Host:
    """A tracker that keeps its port and its data when it is stopped."""

    def __init__(self, directory, requests: Requests) -> None:
        self._directory = directory
        self._requests = requests
        self._port = 0
        self._serving: AsyncExitStack | None = None
        self.documents: Documents | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        self.documents = Documents(self._directory)
        self._serving = AsyncExitStack()
        listening = Tracker(self.documents, random.Random(1)).listening("127.0.0.1", self._port)
        self._port = await self._serving.enter_async_context(listening)

    async def stop(self) -> None:
        if self._serving is not None:
            # asyncio 3.11 leaks a connection that is being accepted while its server closes.
            await until(lambda: not self._requests.count, "the end of all requests")
            await self._serving.aclose()
            self.documents.close()
            self._serving = None


class Room:
    """Two trackers, the creator, and members that it let in."""

    def __init__(self, root, http, requests: Requests, make_node) -> None:
        self._root = root
        self._make_node = make_node
        self._http = http
        self.one, self.two = Host(root / "one", requests), Host(root / "two", requests)
        self.nodes: list = []

    async def begin(self) -> None:
        await self.one.start()
        await self.two.start()
        self.creator = self._node("creator")
        self.creator.book.create("team", [self.one.url, self.two.url], None, None, time.time())

    def guest(self, name: str, *roles: str):
        node = self._node(name)
        granted = roles or ("member",)
        token = self.creator.book.invite("team", granted, 3600.0, 1, time.time())
        node.book.add(node.book.accept(token, time.time()))
        return node

    def _node(self, name: str):
        self.nodes.append(self._make_node(self._root, name, self._http))
        return self.nodes[-1]

    def revoked_at(self, host: Host) -> list:
        (card,) = {node.book.list()[0].card.room_id for node in self.nodes[:1]}
        return [one.node_id for one in host.documents.revoked(card).log]

    async def end(self) -> None:
        for node in self.nodes:
            await node.close()
        await self.one.stop()
        await self.two.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(revocation_couriers, "REVOCATIONS_SETTLE_S", 0.1)
    monkeypatch.setattr("dreamer.daemon.rendezvous.session.TRACKER_RETURN_S", 0.5)
    monkeypatch.setattr("dreamer.daemon.room.registry_documents.REGISTRY_MIRROR_DELAY_S", 0.1)


@pytest.fixture
async def room(tmp_path, room_node):
    requests = Requests()
    async with aiohttp.ClientSession(trace_configs=[requests.trace]) as http:
        made = Room(tmp_path, http, requests, room_node)
        try:
            await made.begin()
            yield made
        finally:
            await made.end()


async def both_up(session) -> None:
    await until(lambda: session.trackers.all_connected, "logging in at both trackers")


async def test_member_that_is_only_at_the_second_tracker_is_seen_and_found(room) -> None:
    guest = room.guest("guest")
    async with room.creator.inside() as session, guest.inside(room.two) as other:
        await both_up(session)
        await until(lambda: guest.id in session.present, "seeing the guest")
        other.sessions[0].announce([swarm_hash(other.card.swarm_secret, MODEL)], [])

        async def found() -> bool:
            return guest.id in await session.holders(MODEL)

        async with asyncio.timeout(DEADLINE_S):
            while not await found():
                await asyncio.sleep(STEP_S)


async def test_signals_reach_a_member_by_the_tracker_where_it_is(room) -> None:
    guest = room.guest("guest")
    async with room.creator.inside() as session, guest.inside(room.two) as other:
        await both_up(session)
        heard = asyncio.Event()
        other.links.signal_received = lambda node, body: heard.set()
        session._signals.send(guest.id, {"kind": "knock", "attempt": 0, "sdp": ""})
        async with asyncio.timeout(DEADLINE_S):
            await heard.wait()


async def test_revocation_made_while_a_tracker_was_away_reaches_it_by_anybody(room) -> None:
    removed, courier = room.guest("removed"), room.guest("courier")
    async with courier.inside() as session:
        await both_up(session)
        await room.two.stop()
        async with room.creator.inside(room.one) as admin:
            await admin.remove_member(removed.id.hex())
        await room.two.start()
        await until(
            lambda: room.revoked_at(room.two) == [removed.id], "the tracker's hearing of it"
        )


async def test_two_admins_at_two_trackers_who_use_one_number_both_count(room) -> None:
    admins = [room.guest(f"admin{number}", "member", "admin") for number in (1, 2)]
    removed = [room.guest(f"removed{number}") for number in (1, 2)]
    hosts = (room.one, room.two)
    async with AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(admin.inside(host))
            for admin, host in zip(admins, hosts, strict=True)
        ]
        for session, node in zip(sessions, removed, strict=True):
            await session.remove_member(node.id.hex())
        assert [len(room.revoked_at(host)) for host in hosts] == [1, 1]
        both = await stack.enter_async_context(room.guest("courier").inside())
        await both_up(both)
        ids = sorted(node.id for node in removed)
        for host in hosts:
            await until(lambda host=host: sorted(room.revoked_at(host)) == ids, "both hearing both")
        for admin in admins:
            await until(
                lambda admin=admin: len(admin.state.revocations(both.room_id)) == 2,
                "both admins hearing both",
            )


async def test_registry_is_read_at_the_second_tracker_and_written_only_at_the_first(room) -> None:
    entry = Publish(ModelEntry(MODEL, "tiny", 1, 1, "files"))
    newcomer = room.guest("newcomer", "member", "publisher")
    async with room.creator.inside() as session:
        await both_up(session)
        await session.registry.change(entry)
        room_id = session.room_id
        await until(lambda: room.two.documents.registry(room_id) is not None, "the mirror")
    await room.one.stop()
    async with newcomer.inside() as session:
        assert (await session.resolve(MODEL.hex())).name == "tiny"
        with pytest.raises(RemoteError, match=f"first tracker.*{room.one.url}"):
            await session.registry.change(MoveAlias("prod", MODEL))
        await room.one.start()
        await both_up(session)
        await session.registry.change(MoveAlias("prod", MODEL))
        first = room.one.documents.registry(room_id).body
        await until(lambda: room.two.documents.registry(room_id).body == first, "the new mirror")


async def test_nodes_come_back_to_trackers_that_were_both_away(room) -> None:
    guest = room.guest("guest")
    async with room.creator.inside() as session, guest.inside() as other:
        await both_up(session)
        for host in (room.one, room.two):
            await host.stop()
        await until(lambda: not session.connected and not other.connected, "losing both")
        assert [one.connected for one in session.trackers.infos()] == [False, False]
        assert all(one.error for one in session.trackers.infos())
        assert session.present == {}
        for host in (room.one, room.two):
            await host.start()
        await both_up(session)
        await both_up(other)
        await until(lambda: guest.id in session.present, "seeing one another again")
