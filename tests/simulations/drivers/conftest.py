"""The daemon's own driver on virtual time: members, and cables with the simulator's lines in them.

Nothing of the daemon is replaced but what it stands on: its event loop jumps to whatever is due
next, its threads do their work at once and are as long about it as the simulator says, and what it
sends takes as long as in the simulator, for the same ``Flows`` carry it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import selectors
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from dreamer.daemon.links.link import Fanout, Link
from dreamer.daemon.sharing import pull_job, serving
from dreamer.daemon.sharing.discovery import Discovery, Onlooker
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.listening_clock import ListeningClock
from dreamer.daemon.sharing.pace import Pace
from dreamer.daemon.sharing.peer_lanes import source_named
from dreamer.daemon.sharing.pull_job import PullContext, PullJob
from dreamer.daemon.state import State
from dreamer.daemon.store.store import Store
from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.transport.inbox import verify_and_write
from dreamer.daemon.transport.outbox import read_span
from dreamer.daemon.transport.vocabulary import (
    Expect,
    SendControl,
    Serve,
    StopExpecting,
    StopServing,
)
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.link.messages import decode
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.holders import Found
from dreamer.protocol.swarm.vocabulary import DiscoveryEnded
from dreamer.simulations.engine.clock import Clock
from dreamer.simulations.engine.flows import Flows
from dreamer.simulations.engine.node import FINISH_S
from dreamer.simulations.engine.tracker import Tracker

ROOM = RoomId(b"r" * 32)
MODEL = "m"


class Jumping(selectors.SelectSelector):
    """Waits for nothing: the time that it would have waited has passed when it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("everybody waits for ever: nothing is due")
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is that of its selector; what threads would do is done at once."""

    def __init__(self) -> None:
        self._jumping = Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(self, executor, func, *args):
        ended = self.create_future()
        result = func(*args)
        self.call_later(FINISH_S, lambda: ended.done() or ended.set_result(result))
        return ended


class LoopClock(Clock):
    """The simulator's clock on such a loop: what is due at once keeps its order here, too."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        super().__init__()

    @property
    def now(self) -> float:
        return self._loop.time()

    @now.setter
    def now(self, value: float) -> None:
        """Only the loop moves it."""

    def at(self, when, happen):
        timer = super().at(when, happen)
        self._loop.call_at(timer.at, self._due)
        return timer

    def _due(self) -> None:
        while self.next_at() <= self.now + 1e-9:
            self.step()


class RoomLinks:
    """What sharing asks of a member's links; cables are laid beforehand."""

    def __init__(self, own: NodeId, rng: random.Random) -> None:
        self.own = own
        self.rng = rng
        self.coming_up: list[NodeId] = []
        self.by_peer: dict[NodeId, Link] = {}

    @property
    def links(self) -> list[Link]:
        return list(self.by_peer.values())

    def link(self, peer: NodeId) -> Link | None:
        return self.by_peer.get(peer)

    def connect(self, peer: NodeId) -> None:
        """All are linked."""


class Member:
    """A node of the daemon's: its store, what it offers, its listeners."""

    def __init__(self, root: Path, name: str, node: NodeId, seed: int, pipes) -> None:
        self.name = name
        self.id = node
        self.pipes = pipes
        self.ends: list[End] = []
        self.rng = random.Random(f"{seed}/{name}")
        self.state = State(root / f"{name}.db")
        self.store = Store(root / name, self.state)
        self.library = Library()
        self.tasks = TaskSet()
        self.fanout = Fanout()
        self.links = RoomLinks(node, self.rng)
        self.serving = serving.Serving(ROOM, self.library, self.store, print, self.tasks)
        self.fanout.add(self.serving)

    def context(self) -> PullContext:
        return PullContext(
            room=ROOM,
            links=self.links,
            library=self.library,
            origin=None,
            punish=lambda node, reason: None,
            numbers=itertools.count(1),
            rng=self.rng,
            tasks=self.tasks,
            own=source_named(self.id),
        )

    async def close(self) -> None:
        self.serving.close()
        await self.tasks.close()
        self.store.close()
        self.state.close()


class End:
    """One end of a cable: what the transport process does for a link, over simulated lines."""

    far: End

    def __init__(self, house: House, number: int, member: Member) -> None:
        self.house = house
        self.number = number
        self.member = member
        self.flow = None
        self.parcels: dict[tuple[int, int], object] = {}
        self.expected: dict[tuple[int, int], tuple] = {}

    def plug(self, far: End) -> None:
        self.far = far
        self.up = True
        self.member.ends.append(self)
        peer = far.member.id
        self.link = Link(self.number, ROOM, peer, False, {}, self.take, 0.0)
        self.member.links.by_peer[peer] = self.link

    def take(self, command) -> None:
        match command:
            case SendControl(_, data):
                self.house.clock.after(self.house.latency_s, partial(self.far.hear, data))
            case Serve(_, request, spans):
                for span in spans:
                    self.send(request, span)
            case StopServing(_, request, block):
                self.stop(request, block)
            case Expect(_, request, spans):
                self.expected |= {(request, span[0]): span for span in spans}
            case StopExpecting(_, request, block):
                for key in [key for key in self.expected if _meant(key, request, block)]:
                    del self.expected[key]

    def hear(self, data: bytes) -> None:
        if self.up:
            self.member.fanout.message(self.link, decode(data))

    def send(self, request: int, span) -> None:
        if self.flow is None:
            pipes = (*self.member.pipes[:1], *self.far.member.pipes[1:])
            self.flow = self.house.flows.open(pipes)
        block, path, offset, length = span
        data = read_span(path, offset, length)
        sent = partial(self.sent, request, block, data)
        self.parcels[request, block] = self.flow.send(length, sent)

    def sent(self, request: int, block: int, data: bytes) -> None:
        del self.parcels[request, block]
        arrive = partial(self.far.arrive, request, block, data)
        self.house.clock.after(self.house.latency_s, arrive)
        self.shrink(request)

    def stop(self, request: int, block: int) -> None:
        # What has been begun is sent to its end, by either of the daemon's lanes.
        waiting = [key for key, parcel in self.parcels.items() if parcel.waits]
        for key in [key for key in waiting if _meant(key, request, block)]:
            self.flow.drop(self.parcels.pop(key))
            self.shrink(request)

    def shrink(self, request: int) -> None:
        if all(asked != request for asked, _ in self.parcels):
            self.member.fanout.serve_ended(self.link, request, None)

    def arrive(self, request: int, block: int, data: bytes) -> None:
        span = self.expected.pop((request, block), None)
        if self.up and span is not None:
            verdict = verify_and_write(span, bytearray(data))
            self.member.fanout.block_done(self.link, request, block, verdict)

    def cut(self) -> None:
        """Send nothing any more, and take nothing."""
        self.up = False
        if self.flow is not None:
            self.flow.close()
        self.parcels.clear()

    def lost(self) -> None:
        """Note that the link is gone."""
        del self.member.links.by_peer[self.far.member.id]
        self.member.fanout.link_down(self.link, "nothing was heard from it")


def _meant(key: tuple[int, int], request: int, block: int) -> bool:
    return key[0] == request and block in (-1, key[1])


class House:
    """All members of one run, their cables and their lines."""

    def __init__(
        self,
        root: Path,
        loop: VirtualLoop,
        seed: int,
        latency_s: float,
        tracker_latency_s: float,
    ) -> None:
        self.root = root
        self.loop = loop
        self.latency_s = latency_s
        self._tracker_latency_s = tracker_latency_s
        self._tracker = Tracker(random.Random(f"{seed}/tracker"))
        self.clock = LoopClock(loop)
        self.flows = Flows(self.clock, 0.0)
        self.members: list[Member] = []
        self._numbers = itertools.count(1)

    def member(self, name: str, node: NodeId, seed: int, up_bytes_s: float, down_bytes_s: float):
        pipes = (self.flows.pipe(up_bytes_s), self.flows.pipe(down_bytes_s))
        self.members.append(Member(self.root, name, node, seed, pipes))
        return self.members[-1]

    def link(self, one: Member, other: Member) -> None:
        number = next(self._numbers)
        ends = End(self, number, one), End(self, number, other)
        ends[0].plug(ends[1])
        ends[1].plug(ends[0])

    def publish(self, members: list[Member], contents: dict[str, bytes]):
        """Have members hold a model; return its manifest and its outboard."""
        source = self.root / "source"
        for name, data in contents.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
        for member in members:
            _, manifest = member.store.ingest(source, lambda done, total: None, threading.Event())
            everything = bitfield.full(manifest.block_count)
            member.library.offer(ROOM, manifest.id, manifest, everything)
            self._announce(member, whole=True)
        return manifest, members[0].store.outboard(manifest)

    def _announce(self, member: Member, *, whole: bool) -> None:
        # Of the tracker's connection only how long it takes; the tracker is the simulator's.
        told = partial(self._tracker.announce, MODEL, member.id, whole=whole)
        self.clock.after(self._tracker_latency_s, told)

    def leave(self, member: Member, at_s: float) -> None:
        """Have a member's machine lose its power at a moment."""
        self.loop.call_at(at_s, self._left, member)

    def _left(self, member: Member) -> None:
        self._tracker.gone(member.id)
        for end in member.ends:
            end.cut()
            end.far.cut()
            self.clock.after(self.latency_s, end.far.lost)

    async def pull(self, member: Member, manifest, outboard, at_s: float) -> None:
        """Have a member pull at a moment, as ``SharedPull`` does once it knows what to fetch."""
        await asyncio.sleep(at_s - self.loop.time())
        download = member.store.open_download(
            manifest, outboard, lambda done, total: None, threading.Event()
        )
        job = PullJob(member.context(), manifest.id, download)
        job.without_swarm()
        member.fanout.add(job)
        self._announce(member, whole=False)
        meeting = asyncio.ensure_future(self._discovery(member).keep_meeting(_looks(job)))
        try:
            await job.run()
            self._announce(member, whole=True)
        finally:
            member.fanout.remove(job)
            meeting.cancel()
            await asyncio.gather(meeting, return_exceptions=True)
            download.close()

    def _discovery(self, member: Member) -> Discovery:
        async def seek() -> Found:
            await asyncio.sleep(2 * self._tracker_latency_s)
            return self._tracker.seek(MODEL, member.id)

        return Discovery(member.links, seek)


def _looks(job: PullJob) -> Onlooker:
    return Onlooker(
        named=job.named,
        ended=lambda: job.feed(DiscoveryEnded()),
        concerns=job.concerns,
        unanswered=job.unanswered,
        whole=job.whole,
        deserted=job.deserted,
    )


@pytest.fixture
def house(tmp_path, monkeypatch):
    """``house(seed, latency_s, tracker_latency_s)`` makes one on a loop of its own."""
    made: list[House] = []

    def make(*settings: float) -> House:
        loop = VirtualLoop()
        monkeypatch.setattr(pull_job, "ListeningClock", partial(ListeningClock, loop.time))
        monkeypatch.setattr(serving, "Pace", partial(Pace, clock=loop.time))
        monkeypatch.setattr(serving, "time", SimpleNamespace(monotonic=loop.time))
        made.append(House(tmp_path, loop, *settings))
        return made[-1]

    yield make
    for one in made:
        for member in one.members:
            one.loop.run_until_complete(member.close())
        one.loop.close()
