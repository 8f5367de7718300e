"""A tracker that swaps session descriptions, to sit between two nodes of a room.

It is our own tracker, all but for what it hands on: every offer and answer is replaced by one of
its own, so that encryption ends at it, and what the nodes then say to each other it passes on.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from dreamer.daemon.client import Dreamer
from dreamer.protocol.link.messages import Hello, decode
from dreamer.simulations import loopback
from dreamer.tracker.app import Tracker
from dreamer.tracker.room.documents import Documents

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MIB = 2**20
WAIT_S = 60.0
ROOM = "betrayed"
NOT_PROVEN = "somebody sits between the two ends"


class Pipe:
    """Hands messages on to an end that may not be open yet, nor even be known.

    Which of the two ends opens first is chance: what the first one says must not be lost.
    """

    def __init__(self, heard: list[bytes]) -> None:
        self._heard = heard
        self._waiting: list[bytes] = []
        self._sink = None

    def lead_to(self, sink) -> None:
        self._sink = sink
        sink.on("open", self._flush)
        self._flush()

    def take(self, data: bytes) -> None:
        self._heard.append(data)
        self._waiting.append(data)
        self._flush()

    def _flush(self) -> None:
        if self._sink is not None and self._sink.readyState == "open":
            for data in self._waiting:
                self._sink.send(data)
            self._waiting.clear()


class Middle:
    """What the tracker keeps of one attempt to link: an end towards each of the two nodes."""

    def __init__(self, heard: list[bytes]) -> None:
        self._heard = heard
        self.offerer, self.answerer = (
            RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2)
        )
        self._ours = {
            "control": self.answerer.createDataChannel("control"),
            "bulk": self.answerer.createDataChannel("bulk", ordered=False),
        }
        self._to_offerer = {label: Pipe(heard) for label in self._ours}
        for label, channel in self._ours.items():
            channel.on("message", self._to_offerer[label].take)
        self.offerer.on("datachannel", self._join)

    def _join(self, theirs) -> None:
        self._to_offerer[theirs.label].lead_to(theirs)
        to_answerer = Pipe(self._heard)
        to_answerer.lead_to(self._ours[theirs.label])
        theirs.on("message", to_answerer.take)

    async def offer(self, sdp: str) -> str:
        """Take the offer of one; return ours to the other."""
        await self.offerer.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await self.answerer.setLocalDescription(await self.answerer.createOffer())
        return self.answerer.localDescription.sdp

    async def answer(self, sdp: str) -> str:
        """Take the answer of the other; return ours to the one."""
        await self.answerer.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        await self.offerer.setLocalDescription(await self.offerer.createAnswer())
        return self.offerer.localDescription.sdp

    async def close(self) -> None:
        await asyncio.gather(self.offerer.close(), self.answerer.close())


class Tampering:
    """Replaces the descriptions in signals, by ``way``; "honest" lets them be."""

    def __init__(self, tracker: Tracker) -> None:
        self.way = "honest"
        self.heard: list[bytes] = []
        self.attempts: dict[int, Middle] = {}
        self._tasks: set[asyncio.Task] = set()
        self._hand_on = tracker._room._signal
        tracker._room._signal = self._signal

    def _signal(self, guest, said) -> None:
        task = asyncio.create_task(self._tamper(guest, said))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tamper(self, guest, said) -> None:
        body = json.loads(said.body)
        if body["kind"] != "knock" and self.way != "honest":
            change = self._sit_between if self.way == "in the middle" else self._other_fingerprint
            body["sdp"] = await change(body)
        self._hand_on(guest, replace(said, body=json.dumps(body)))

    async def _sit_between(self, body: dict) -> str:
        if body["kind"] == "offer":
            middle = self.attempts[body["attempt"]] = Middle(self.heard)
            return await middle.offer(body["sdp"])
        return await self.attempts[body["attempt"]].answer(body["sdp"])

    async def _other_fingerprint(self, body: dict) -> str:
        other = ":".join(f"{byte:02X}" for byte in range(32))
        swapped, count = re.subn(r"(fingerprint:sha-256) \S+", rf"\1 {other}", body["sdp"])
        assert count > 0
        self.attempts[body["attempt"]] = Middle(self.heard)
        return swapped

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for middle in self.attempts.values():
            await middle.close()


@asynccontextmanager
async def tampering(data: Path):
    """Serve the tracker; yields its URL and what it does to signals."""
    documents = Documents(data)
    tracker = Tracker(documents, random.Random(5))
    way = Tampering(tracker)
    try:
        async with tracker.listening("127.0.0.1", 0) as port:
            try:
                yield f"http://127.0.0.1:{port}", way
            finally:
                await way.close()
    finally:
        documents.close()


async def until(happened, what: str) -> None:
    """Wait until something that blocks to find out says yes."""
    await asyncio.to_thread(loopback.until, happened, what, WAIT_S)


def linked(node) -> bool:
    return any(peer.linked for peer in Dreamer(node.home).peers())


def refusals(node) -> int:
    return node.process.log.read_text().count(NOT_PROVEN)


@pytest.fixture
def pair(team, request):
    """Two nodes that are in no room yet."""
    number = request.node.callspec.indices["way"] if hasattr(request.node, "callspec") else 0
    nodes = team.node(f"A{number}"), team.node(f"B{number}")
    yield nodes
    for node in nodes:
        node.process.stop()


@pytest.mark.parametrize("way", ["in the middle", "other fingerprints"])
async def test_nodes_do_not_link_through_a_tracker_that_swaps_descriptions(
    team, pair, tmp_path, watch, way
):
    holder, asker = pair
    source = team.model(f"wanted-{way[:2]}", MIB)
    async with tampering(tmp_path / "data") as (url, tamperer):
        await asyncio.to_thread(holder.dreamer, "room", "create", ROOM, "--tracker", url)
        # Before there are two: members of a room link with one another of their own accord.
        tamperer.way = way
        await asyncio.to_thread(team.join, asker, holder, ROOM)
        await asyncio.to_thread(
            holder.dreamer, "push", str(source), "--room", ROOM, "--alias", "wanted"
        )
        with asker.begin("pull", "wanted", "--room", ROOM, "--json") as pull:
            if way == "in the middle":
                # Both see other certificates than the other one has signed, and both say so.
                await until(lambda: refusals(holder) and refusals(asker), "two refusals")
                assert {type(decode(data)) for data in tamperer.heard} == {Hello}
            else:
                await until(lambda: len(tamperer.attempts) > 1, "a second try")
                assert tamperer.heard == []
            assert not linked(holder)
            assert not linked(asker)
            assert [peer.bytes_up for peer in Dreamer(holder.home).peers()] in ([], [0])

            # The same two, the same pull, if it has not given up: nothing else was in its way.
            tamperer.way = "honest"
            await asyncio.to_thread(pull.communicate, timeout=WAIT_S)
        # What was under way when the tracker turned honest may still have to fail by its timeout.
        await until(lambda: linked(holder) and linked(asker), "an honest link")
        receipt = await asyncio.to_thread(asker.dreamer, "pull", "wanted", "--room", ROOM)
        assert linked(holder)
        assert watch.content(Path(receipt["path"])) == watch.content(source)
        if pull.returncode != 0:
            assert watch.moved(receipt) == MIB
