"""What those who don't belong get: nothing, and not for long."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import stat
import time
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from dreamer.daemon.client import Dreamer
from dreamer.daemon.identity import NodeIdentity, write_private
from dreamer.daemon.rendezvous.events import SignalReceived
from dreamer.daemon.rendezvous.session import TrackerSession
from dreamer.daemon.room.book import RoomBook
from dreamer.protocol import canonical
from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.limits import LINK_HANDSHAKE_TIMEOUT_S, LINK_RETRY_MIN_S
from dreamer.protocol.link.handshake import Fingerprints, Party, hello
from dreamer.protocol.link.messages import Follow, GetObject, Hello, Want, decode, encode
from dreamer.protocol.link.negotiation import signal
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.protocol.rooms.membership import chain_to_json

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

MIB = 2**20
WAIT_S = 60.0
LATE_S = 15.0
"""How late a timeout may come, and be seen, where others have the cores."""


@pytest.fixture(scope="module")
def wanted(team, lab):
    """A model at A that a stranger would like to have."""
    receipt = lab[0].dreamer("push", str(team.model("wanted", MIB)), "--room", "lab")
    return bytes.fromhex(receipt["manifest_id"])


@pytest.fixture(scope="module")
def spy(team, lab):
    """The home of a member whose daemon is stopped: its place at the tracker is the stranger's."""
    # Only the node with the smaller id makes offers, and that must be the spy.
    target = bytes.fromhex(Dreamer(lab[0].home).status()["node_id"])
    seeds = (bytes([number]) * 32 for number in range(256))
    seed = next(seed for seed in seeds if SigningKey(seed).public < target)
    write_private(team.root / "spy" / "identity" / "node.key", seed.hex().encode())
    node = team.member("spy", lab[0])
    team.room(node, "elsewhere")
    node.process.stop()
    return node.home


class Stranger:
    """A peer connection that A believes to come from the spy, with none of our code on it."""

    _attempts = itertools.count(1)

    def __init__(self) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.control = self.pc.createDataChannel("control")
        self.bulk = self.pc.createDataChannel("bulk", ordered=False)
        self.heard: list[bytes] = []
        self.took: list[bytes] = []
        self.opened, self.closed = asyncio.Event(), asyncio.Event()
        self.control.on("open", self.opened.set)
        self.control.on("close", self.closed.set)
        self.control.on("message", self.heard.append)
        self.bulk.on("message", self.took.append)

    async def call(self, session: TrackerSession, signals: asyncio.Queue, peer: bytes) -> None:
        """Offer through the tracker, and wait until the channels are open."""
        await self.pc.setLocalDescription(await self.pc.createOffer())
        async with asyncio.timeout(WAIT_S):
            body = await self._offer(session, signals, peer)
            await self.pc.setRemoteDescription(RTCSessionDescription(body["sdp"], "answer"))
            await self.opened.wait()

    async def _offer(self, session: TrackerSession, signals: asyncio.Queue, peer: bytes) -> dict:
        # A does not listen to a peer that tries more than once in a moment.
        while True:
            sdp = self.pc.localDescription.sdp
            await session.signal(peer, signal("offer", next(self._attempts), sdp))
            with suppress(TimeoutError):
                async with asyncio.timeout(1.5 * LINK_RETRY_MIN_S):
                    return await signals.get()

    def seen(self) -> Fingerprints:
        """Return the fingerprints that an honest peer would sign."""
        sides = (self.pc.localDescription, self.pc.remoteDescription)
        shown = [re.search(r"fingerprint:sha-256 (\S+)", side.sdp)[1] for side in sides]
        ours, theirs = (bytes.fromhex(value.replace(":", "")) for value in shown)
        return Fingerprints(ours, theirs)

    async def cut_off(self) -> float:
        """Wait to be closed; return how long it took."""
        began = time.monotonic()
        async with asyncio.timeout(WAIT_S):
            await self.closed.wait()
        return time.monotonic() - began


@pytest.fixture
def calling(lab, spy):
    """A function that links a stranger to A, as the spy."""

    @asynccontextmanager
    async def call():
        target = bytes.fromhex(Dreamer(lab[0].home).status()["node_id"])
        identity = NodeIdentity.load_or_create(spy)
        membership = RoomBook(spy, identity).get("lab")
        signals: asyncio.Queue = asyncio.Queue()

        def note(event):
            if not isinstance(event, SignalReceived) or event.node != target:
                return
            # A knocks, too: it calls members of its own accord, to keep a few links.
            if event.body["kind"] == "answer":
                signals.put_nowait(event.body)

        stranger = Stranger()
        async with aiohttp.ClientSession() as http:
            session = TrackerSession(
                http,
                *(membership.card.trackers[0], membership.card, membership.chain, identity.key),
                *(random.Random(1), note),
            )
            running = asyncio.create_task(session.run())
            try:
                await session.wait_connected(WAIT_S)
                await stranger.call(session, signals, target)
                yield stranger, membership, identity, target
            finally:
                await stranger.pc.close()
                running.cancel()
                await asyncio.wait([running])

    return call


async def test_stranger_that_says_nothing_is_cut_off(calling):
    async with calling() as (stranger, *_):
        took_s = await stranger.cut_off()
        assert took_s < LINK_HANDSHAKE_TIMEOUT_S + LATE_S
        assert [type(decode(data)) for data in stranger.heard] == [Hello]
        assert stranger.took == []


async def test_stranger_that_asks_before_it_proves_anything_gets_nothing(calling, wanted):
    async with calling() as (stranger, *_):
        for message in (Follow(wanted), GetObject(1, wanted, 0), Want(2, wanted, 0, 1, False)):
            stranger.control.send(encode(message))
        await stranger.cut_off()
        assert [type(decode(data)) for data in stranger.heard] == [Hello]
        assert stranger.took == []


@pytest.mark.parametrize("forgery", ["another key", "another link", "another room"])
async def test_forged_proof_is_refused(calling, spy, wanted, forgery):
    async with calling() as (stranger, membership, identity, target):
        seen, key, chain = stranger.seen(), identity.key, membership.chain
        if forgery == "another key":
            key = SigningKey(bytes(range(32)))
        elif forgery == "another link":
            seen = Fingerprints(bytes(32), seen.theirs)
        else:
            chain = RoomBook(spy, identity).get("elsewhere").chain
        chain = canonical.dumps({"chain": chain_to_json(chain)})
        proof = hello(Party(membership.card.room_id, key, chain, b"{}"), target, seen)
        for message in (
            proof,
            Follow(wanted),
            GetObject(1, wanted, 0),
            Want(2, wanted, 0, 1, False),
        ):
            stranger.control.send(encode(message))
        await stranger.cut_off()
        assert [type(decode(data)) for data in stranger.heard] == [Hello]
        assert stranger.took == []


async def test_honest_proof_is_believed(calling, wanted):
    # Without this, the refusals above could have any other reason.
    async with calling() as (stranger, membership, identity, target):
        chain = canonical.dumps({"chain": chain_to_json(membership.chain)})
        proof = hello(
            Party(membership.card.room_id, identity.key, chain, b"{}"), target, stranger.seen()
        )
        stranger.control.send(encode(proof))
        stranger.control.send(encode(Want(2, wanted, 0, 1, False)))
        async with asyncio.timeout(WAIT_S):
            while sum(map(len, stranger.took)) < MIB:
                await asyncio.sleep(0.01)


async def test_stranger_to_the_room_is_not_let_in_by_the_tracker(spy, lab):
    identity = NodeIdentity.load_or_create(spy)
    book = RoomBook(spy, identity)
    async with aiohttp.ClientSession() as http:
        session = TrackerSession(
            http,
            *(book.get("lab").card.trackers[0], book.get("lab").card),
            *(book.get("elsewhere").chain, identity.key, random.Random(1), lambda event: None),
        )
        running = asyncio.create_task(session.run())
        try:
            with pytest.raises(ForbiddenError):
                await session.wait_connected(WAIT_S)
        finally:
            running.cancel()
            await asyncio.wait([running])


async def test_registry_is_for_members_with_a_session_alone(spy, lab, team):
    book = RoomBook(spy, NodeIdentity.load_or_create(spy))
    url = f"{team.tracker}/rooms/{book.get('lab').card.room_id.hex()}/registry"
    async with aiohttp.ClientSession() as http:
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp4"}):
            async with http.get(url, headers=headers) as response:
                assert response.status == 401
                assert b"models" not in await response.read()
            async with http.put(
                url, data=b"{}", headers={**headers, "If-None-Match": "*"}
            ) as response:
                assert response.status == 401


async def test_session_of_one_room_opens_no_other(spy, lab, team):
    identity = NodeIdentity.load_or_create(spy)
    book = RoomBook(spy, identity)
    elsewhere = book.get("elsewhere")
    url = f"{team.tracker}/rooms/{book.get('lab').card.room_id.hex()}/registry"
    async with aiohttp.ClientSession() as http:
        session = TrackerSession(
            http,
            *(team.tracker, elsewhere.card, elsewhere.chain, identity.key),
            *(random.Random(1), lambda event: None),
        )
        running = asyncio.create_task(session.run())
        try:
            await session.wait_connected(WAIT_S)
            headers = {"Authorization": f"Bearer {session._session()}"}
            async with http.get(url, headers=headers) as response:
                assert response.status in (401, 403)
        finally:
            running.cancel()
            await asyncio.wait([running])


def test_secrets_and_the_socket_are_the_owners_alone(lab):
    for node in lab:
        secrets = [node.home / "run/dreamerd.sock", node.home / "identity/node.key"]
        secrets += (node.home / "identity" / "rooms").iterdir()
        assert {stat.S_IMODE(secret.stat().st_mode) for secret in secrets} == {0o600}
