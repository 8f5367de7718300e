"""Stand-ins of what offloading stands on: a room, links, runners that say what they are told."""

from __future__ import annotations

import asyncio
from random import Random
from types import SimpleNamespace

import pytest

from dreamer.daemon.inference.requests import Ended, Started, Text
from dreamer.daemon.links.link import Link
from dreamer.daemon.offload.candidates import Scout
from dreamer.daemon.offload.running import Runs
from dreamer.daemon.room.presence import SERVES
from dreamer.daemon.surfaces.inference import RunOptions
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.link.offload_messages import OFFLOAD, OFFLOAD_VERSION
from dreamer.protocol.offload import Runner
from dreamer.protocol.registry.view import Registry
from dreamer.protocol.swarm.vocabulary import Lane

ROOM, MODEL_ID = RoomId(b"r" * 32), ManifestId(b"m" * 32)
US, NEAR, FAR = (NodeId(bytes([n]) * 32) for n in (1, 2, 3))
MODEL = SimpleNamespace(manifest_id=MODEL_ID, name="tiny", size_bytes=1000)
PATIENCE_S = 10.0


def tokens(text: str) -> list[Text]:
    """Return a text as pieces of a token for each character."""
    return [Text(one, (ord(one),)) for one in text]


def whole(text: str, reason="stop") -> list:
    """Return a whole answer: each character is a token."""
    return [Started("m", 5), *tokens(text), Ended(reason, 5, len(text), 0.1, 0.2)]


class Script:
    """What a runner says: events, errors to raise, or ``None`` to hang. ``asked`` is of what."""

    def __init__(self, *says) -> None:
        self.says = says
        self.asked = []
        self.stopped = 0

    async def play(self, request):
        self.asked.append(request)
        done = False
        try:
            for said in self.says:
                if said is None:
                    await asyncio.Event().wait()
                if isinstance(said, Exception):
                    done = True
                    raise said
                yield said
            done = True
        finally:
            self.stopped += not done


class Peers:
    """An ``OffloadAsking`` whose peers answer as they are told to."""

    def __init__(self, **scripts: Script) -> None:
        self.scripts = scripts
        self.asked: list[str] = []

    def generate(self, link, manifest_id, request):
        self.asked.append(link.name)
        return self.scripts[link.name].play(request)

    def doubts(self, link) -> bool:
        return False


class Here:
    """A ``LocalModels`` that holds the model, or not."""

    def __init__(self, script: Script | None, runner: Runner | None = None) -> None:
        self.script = script
        self.known = runner or Runner(US, 0.0, loaded=True)

    def held(self, room, manifest_id) -> bool:
        return self.script is not None

    def runner(self, node, manifest_id) -> Runner:
        return self.known

    def generate(self, room, manifest_id, request, keep_alive_s=None):
        return self.script.play(request)


def link_to(peer, name, rtt_s, serves=True):
    said = {"name": name, SERVES: serves, OFFLOAD: OFFLOAD_VERSION}
    return Link(1 + peer[0], ROOM, peer, Lane.WEBRTC, said, print, 0.0, rtt_s=rtt_s)


class Session:
    """A room in which two peers hold the model."""

    room_id = ROOM

    def __init__(self, *links, rules=None, roles=None) -> None:
        self._links = {link.peer: link for link in links}
        self.roles = roles or {}
        self.policy = SimpleNamespace(offload=rules)
        self.present = {link.peer: link.capabilities for link in links}
        self.links = SimpleNamespace(
            own=US,
            rng=Random(1),
            links=links,
            coming_up=[],
            connect=lambda peer: None,
            link=self._links.get,
        )

    async def holders(self, manifest_id):
        return list(self._links)

    def roles_of(self, node):
        return self.roles.get(node, ("member",))

    def registry_known(self):
        return Registry(policy=self.policy)


class Offloading:
    """A node that may run requests here or on ``near`` and ``far``."""

    def __init__(
        self, peers=None, here=None, *, asking="auto", session=None, timeout_s=5.0
    ) -> None:
        self.tasks = TaskSet()
        self.peers = peers or Peers()
        self.here = here if isinstance(here, Here) else Here(here)
        self.session = session or Session(link_to(FAR, "far", 0.5), link_to(NEAR, "near", 0.01))
        scout = Scout(US, self.here, asking, self.tasks)
        self.runs = Runs(US, "us", self.here, scout, timeout_s, {ROOM: self.peers})

    async def run(self, request, prefer="auto"):
        """Return all events; ``heard`` has them, too, when it fails."""
        self.heard = []
        try:
            async with asyncio.timeout(PATIENCE_S):
                async for event in self.begin(request, prefer):
                    self.heard.append(event)
        finally:
            await self.tasks.close()
        return self.heard

    async def meet(self) -> None:
        """Know the peers that serve, as after an earlier request."""
        await self.runs.scout._meet(self.session, MODEL_ID)

    def begin(self, request, prefer="auto"):
        return self.runs.generate(self.session, MODEL, request, RunOptions(prefer))


@pytest.fixture
def offloading():
    """What the tests of offloading are made of."""
    return SimpleNamespace(
        Offloading=Offloading,
        Script=Script,
        Peers=Peers,
        Here=Here,
        Session=Session,
        link_to=link_to,
        whole=whole,
        tokens=tokens,
        US=US,
        NEAR=NEAR,
        FAR=FAR,
        MODEL_ID=MODEL_ID,
        ROOM=ROOM,
    )
