"""A node kept in memory, with the real API served over it, and homes that are in a real room."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import random
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.links.ice import IceSettings
from dreamer.daemon.places import find_places
from dreamer.daemon.ports import (
    MeetingText,
    PeerInfo,
    Progress,
    PullReceipt,
    PushReceipt,
    RoomInfo,
    RunEnded,
    RunStarted,
    RunText,
    TorrentReceipt,
)
from dreamer.daemon.rest.app import make_app
from dreamer.daemon.rest.local_socket import connect
from dreamer.daemon.rest.serve import serving
from dreamer.daemon.room.book import RoomBook
from dreamer.daemon.room.parts import RoomParts
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.state import State
from dreamer.daemon.surfaces.caches import (
    CachedInfo,
    CollectReceipt,
    LeftoverInfo,
    OwnBytes,
    PinInfo,
    StoreUsage,
    VerifiedModel,
    VerifyReceipt,
)
from dreamer.daemon.surfaces.catalogue import ModelInfo
from dreamer.daemon.surfaces.costs import (
    CostAlert,
    CostFigures,
    CostReport,
    LaneCost,
    ModelCost,
    NodeCost,
    RoomCost,
)
from dreamer.daemon.surfaces.readiness import PreloadInfo, ReadyInfo
from dreamer.daemon.surfaces.retention import (
    GarbageKind,
    GarbageReport,
    Judged,
    KeepRules,
    PolicyInfo,
    RetentionReport,
)
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.costs import check_month
from dreamer.protocol.errors import (
    AmbiguousError,
    ForbiddenError,
    InputError,
    LocalError,
    NoMatchError,
    RemoteError,
)

WAIT_S = 10.0
MODEL_ID = "ab" * 32


class MemoryReadiness:
    """One model to be preloaded; ready when the test says so."""

    def __init__(self) -> None:
        self.ready = True

    def info(self):
        if self.ready:
            model = PreloadInfo("prod", "ready", True, MODEL_ID, "tiny", True, 5, 5)
            return ReadyInfo(True, (), (model,))
        model = PreloadInfo("prod", "fetching", False, done=2, total=5)
        return ReadyInfo(False, ("prod: fetching, 2 of 5 bytes are here",), (model,))


class MemoryCosts:
    """A room of two nodes, in a month that cost a dollar instead of ten."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.crossed = False

    async def read(self, month, room):
        self.asked.append((month, room))
        check_month(month or "2026-11")
        if room == "nowhere":
            raise NoMatchError("there is no room 'nowhere'")
        figures = CostFigures(uses=3, wanted_bytes=100 * 10**9, cost=1.0, without_peers=4.5,
                              without_cache=5.5, without_both=9.0, saved=8.0)  # fmt: skip
        lanes = (LaneCost("direct", 5 * 2**20, 2**20, 0.0), LaneCost("origin", 10**9, 0, 1.0))
        nodes = (
            NodeCost("ef" * 32, "memory", True, None, figures),
            NodeCost("01" * 32, "other", False, 7200.0, CostFigures()),
        )
        lab = RoomCost("lab", "cd" * 32, 5, 2, figures, lanes, nodes, 10**12, 23.0)
        models = (ModelCost(MODEL_ID, "tiny", figures), ModelCost("", "", CostFigures(lists=4)))
        alert = CostAlert("origin_gb_per_day", 50.0, 61.5, "2026-11-21", True)
        return CostReport(
            month, "2026-01", "USD", {"egress_gb": 0.09}, figures, lanes, models,
            (lab,), (alert,) if self.crossed else (),
        )  # fmt: skip


class MemoryCaches:
    """One model, used an hour ago and pinned; one leftover. ``damaged`` when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.damaged = False
        self.pin_of = PinInfo(MODEL_ID, "by alias prod in lab", "prod", "lab", "memory", 1.8e9)

    async def models(self):
        used = time.time() - 3 * 3600
        return [
            CachedInfo(
                MODEL_ID, MODEL_ID[:8], "tiny", 3 * 2**20, 3 * 2**20, 2 * 2**20, used, True,
                "loaded", (self.pin_of,),
            ),
            CachedInfo("cd" * 32, "cd" * 4, "half[red]", 9, 4, 5, 0.0, False, "", (), 1.0),
        ]  # fmt: skip

    async def usage(self):
        own = (OwnBytes(MODEL_ID, "tiny", 2 * 2**20),)
        return StoreUsage("/models", own, 2**20, 0, 5, 0, 0, 7, 0, 2**22, 2**23, 2**30, 2**21)

    async def verify(self, ref, room):
        self.asked.append(("verify", ref, room))
        if ref in MemoryNode.FAILURES:
            raise MemoryNode.FAILURES[ref]
        yield Progress("verify", 1, 2)
        lacking = ("w.bin",) if self.damaged else ()
        advice = f"pull again: {MODEL_ID[:8]}" if self.damaged else ""
        found = VerifiedModel(MODEL_ID, "tiny", 2, lacking)
        yield VerifyReceipt((found,), int(self.damaged), advice)

    async def collect(self, remove, older_than_s):
        self.asked.append(("collect", remove, older_than_s))
        return CollectReceipt((LeftoverInfo("partial", "cd" * 32, 2**20),), 2**20, remove)

    async def pins(self):
        return [self.pin_of]

    async def pin(self, ref, room, alias):
        self.asked.append(("pin", ref, room, alias))
        return self.pin_of if alias else PinInfo(MODEL_ID, "by hand")

    async def unpin(self, ref, room, alias):
        self.asked.append(("unpin", ref, room, alias))
        if ref == "other":
            raise NoMatchError("nothing pins 'other' so: see 'dreamer store ls'")
        return [self.pin_of]


class MemoryRetention:
    """A room whose rules keep one model and let another go."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.rules = KeepRules()

    async def policy(self, room):
        said = (f"the last {self.rules.keep_last} of each alias",) if self.rules.keep_last else ()
        return PolicyInfo(room or "lab", self.rules, said)

    async def set_policy(self, room, rules):
        if room == "theirs":
            raise ForbiddenError("only admins set what a room keeps: ask one")
        self.asked.append(("set_policy", room, rules))
        self.rules = rules
        return await self.policy(room)

    async def retain(self, room, apply):
        self.asked.append(("retain", room, apply))
        kept = Judged(MODEL_ID, MODEL_ID[:8], "tiny", 3, 1.8e9, (), ("alias prod",))
        going = Judged("cd" * 32, "cd" * 4, "old[red]", 2**20, 1.7e9, (), ())
        return RetentionReport("lab", apply, ("the last 3 of each alias",), (kept,), (going,))

    async def collect(self, room, apply, grace_s):
        self.asked.append(("collect", room, apply, grace_s))
        kinds = (GarbageKind("no model of the room has it", 3, 2**20),)
        return GarbageReport(
            "lab", "s3://b/lab", apply, grace_s, 9, 2**21, kinds, 2 * apply, 2**20 * apply, 1, 5,
            2, 6, 4, 7, ("0123abcd",), 1, ("lab/files/notes.txt",), ("lab/files/x",) * apply,
            False, "sweep",
        )  # fmt: skip


class MemoryNode:
    """One room, one model. A REF named in ``FAILURES`` fails so; ``slow`` never ends by itself."""

    FAILURES: ClassVar = {
        "missing": NoMatchError(
            "no model is called 'missing'; 'dreamer models' lists what there is"
        ),
        "several": AmbiguousError("'several' names 2 models"),
        "refused": ForbiddenError("the manifest's signature is wrong"),
        "away": RemoteError("the tracker is away; try again"),
        "full": LocalError("the disk is full; free 3 GiB"),
    }

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.readiness = MemoryReadiness()
        self.costs = MemoryCosts()
        self.caches = MemoryCaches()
        self.retention = MemoryRetention()
        self.begun = threading.Event()
        self.cancelled = threading.Event()
        self.aliases = ("prod",)
        self.tags = ("validated",)
        self.room = RoomInfo(
            "lab", "cd" * 32, ("member", "publisher"), ("http://127.0.0.1:1",), None, None, True
        )

    def _model(self) -> ModelInfo:
        return ModelInfo(
            MODEL_ID, MODEL_ID[:8], "lab", "tiny", 3 * 2**20, 4, self.aliases, self.tags,
            "ef" * 32, 1.8e9, True, "/models/tiny", 2,
        )  # fmt: skip

    def _check(self, ref: str) -> None:
        if ref in self.FAILURES:
            raise self.FAILURES[ref]

    async def status(self):
        return {
            "id": "ef" * 32,
            "name": "memory",
            "rooms": [{"name": "lab"}],
            "store": {"bytes": 5},
        }

    async def metrics(self):
        return "dreamer_up 1\n"

    def rooms(self):
        return [self.room]

    async def create_room(
        self, name, trackers, origin, endpoint_url, no_tracker=False, registry="tracker"
    ):
        tracker = ("no tracker",) if no_tracker else ()
        tracker += ("registry",) if registry == "origin" else ()
        self.calls.append(("create_room", name, trackers, origin, endpoint_url, *tracker))
        own = () if no_tracker else self.room.trackers
        where = tuple(trackers) or own
        return RoomInfo(
            *(name, "cd" * 32, ("admin",), where, origin, endpoint_url, True), registry=registry
        )

    async def invite(self, room, roles, expires_s, uses):
        self.calls.append(("invite", room, roles, expires_s, uses))
        return "dreamer1-token"

    async def join_room(self, token):
        if token != "dreamer1-token":
            raise InputError("that is no invitation; ask for one made by 'dreamer room invite'")
        return self.room

    async def leave_room(self, room):
        self.calls.append(("leave_room", room))

    async def remove_member(self, room, node):
        self.calls.append(("remove_member", room, node))
        return node.ljust(64, "0")

    async def offer_link(self, room):
        self.calls.append(("offer_link", room))
        return MeetingText("offer", "DREAMER-OFFER.AE", room or "lab", None, 600.0)

    async def take_meeting_text(self, text):
        self.calls.append(("take_meeting_text", text))
        match text.strip():
            case "DREAMER-OFFER.AE":
                return MeetingText("answer", "DREAMER-ANSWER.AE", "lab", "ef" * 32, 600.0)
            case "DREAMER-ANSWER.AE":
                return (await self.peers(None))[0]
            case "DREAMER-ANSWER.AWAY":
                raise RemoteError(
                    "no link to efefefef: the two machines could not reach each other"
                )
        raise InputError("this text is cut short")

    async def push(self, room, request):
        self.calls.append(("push", room, request))
        yield Progress("hash", 1, 2)
        yield PushReceipt(
            MODEL_ID, MODEL_ID[:8], request.name, room, 2, 1, request.aliases, request.tags,
            0.5, 0, None,
        )  # fmt: skip

    async def pull(self, ref, room, output):
        self.calls.append(("pull", ref, room, output))
        yield Progress("resolve", 0, 0)
        self._check(ref)
        if ref == "slow":
            await self._forever()
        yield Progress("fetch", 2**20, 3 * 2**20, 2.0**20, {"webrtc": 2**20}, "half-way")
        yield PullReceipt(
            MODEL_ID, MODEL_ID[:8], "tiny", str(output or "/models/tiny"), 3 * 2**20, 1.5,
            {"cache": 0, "direct": 0, "webrtc": 3 * 2**20, "relay": 0, "torrent": 0, "origin": 0},
            {"webrtc": 1.0}, 0, {"ef" * 32: 3 * 2**20},
        )  # fmt: skip

    async def torrent(self, ref, room, output):
        self.calls.append(("torrent", ref, room, output))
        yield Progress("torrent", 1, 2)
        self._check(ref)
        yield TorrentReceipt(
            MODEL_ID, MODEL_ID[:8], "tiny", "lab", False, "1a" * 20, "2b" * 32,
            f"magnet:?xt=urn:btih:{'1a' * 20}", str(output or "/models/tiny.torrent"),
        )  # fmt: skip

    async def _forever(self):
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.cancelled.set()

    async def models(self, room, query=""):
        self.calls.append(("models", room, *([query] if query else [])))
        return [self._model()]

    async def peers(self, room):
        self.calls.append(("peers", room))
        return [PeerInfo("ef" * 32, "other[red]", "lab", True, True, "webrtc", 1, 2, (), 1.5)]

    async def topology(self, room):
        self.calls.append(("topology", room))
        return {"kind": "dreamer.topology", "version": 1, "members": [1, 2], "models": [3]}

    async def set_alias(self, room, alias, ref, expected=None):
        self._check(ref)
        self.calls.append(("set_alias", room, alias, ref, *([expected] if expected else [])))
        self.aliases = (*self.aliases, alias)
        return self._model()

    async def remove_alias(self, room, alias):
        self.calls.append(("remove_alias", room, alias))

    async def change_tags(self, room, ref, add, remove):
        self.calls.append(("change_tags", room, ref, add, remove))
        self.tags = tuple(tag for tag in (*self.tags, *add) if tag not in remove)
        return self._model()

    async def remove(self, ref, room):
        self._check(ref)
        self.calls.append(("remove", ref, room))
        return 3 * 2**20

    async def run(self, request):
        self.calls.append(("run", request))
        self._check(request.ref)
        yield RunStarted("peer", "ef" * 32, "other", MODEL_ID)
        yield RunText("Hello ", 1)
        if request.ref == "slow":
            await self._forever()
        if request.ref == "breaks":
            raise RemoteError("the peer went away; run it again")
        yield RunText("wörld\x1b[31m", 2)
        yield RunEnded("stop", 5, 3, 0.1, 0.4)


class ServedNode:
    """The API over a MemoryNode, served by a loop of its own in a thread."""

    def __init__(self, home: Path, *, token: str | None = None, tcp: bool = False) -> None:
        self.home = home
        self.node = MemoryNode()
        self.token = token
        self.tcp: tuple[str, int] | None = ("127.0.0.1", 0) if tcp else None
        self.socket = find_places(home, "").socket
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def start(self) -> ServedNode:
        self._thread.start()
        assert self._ready.wait(WAIT_S)
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._serving() as self.tcp:
            self._ready.set()
            await self._stop.wait()

    @asynccontextmanager
    async def _serving(self):
        app = make_app(self.node, self.token)
        async with serving(app, self.socket, tcp=self.tcp, drain_s=0.05) as address:
            yield address

    def connection(self, *, by_tcp: bool = False) -> http.client.HTTPConnection:
        if by_tcp:
            return http.client.HTTPConnection(*self.tcp, timeout=WAIT_S)
        made = http.client.HTTPConnection("dreamerd", timeout=WAIT_S)
        made.sock = connect(self.socket, WAIT_S)
        return made

    def call(self, method, path, body=None, headers=None, *, by_tcp=False):
        """Return status, headers and text of one request; ``body`` may be raw bytes."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        connection = self.connection(by_tcp=by_tcp)
        try:
            connection.request(method, f"/dreamer/v1{path}", body, headers)
            with connection.getresponse() as answer:
                return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()

    def json(self, method, path, body=None, headers=None, *, by_tcp=False):
        """Return status and parsed JSON of one request."""
        status, _, text = self.call(method, path, body, headers, by_tcp=by_tcp)
        return status, json.loads(text)


@pytest.fixture
def served(tmp_path):
    one = ServedNode(tmp_path / "home").start()
    yield one
    one.stop()


@pytest.fixture
def served_by_tcp(tmp_path):
    one = ServedNode(tmp_path / "home", token="s3cret", tcp=True).start()
    yield one
    one.stop()


class RoomNode:
    """A home, and its session in the room, at all trackers or only some."""

    def __init__(self, root, name: str, http) -> None:
        self.home = root / name
        self.http = http
        self.identity = NodeIdentity.load_or_create(self.home)
        self.id = self.identity.node_id
        self.book = RoomBook(self.home, self.identity)
        self.state = State(self.home / "state.db")
        self.tasks = TaskSet()

    @asynccontextmanager
    async def inside(self, *trackers):
        """Be in the room for a while; without ``trackers``, at all of it."""
        membership = self.book.list()[0]
        if trackers:
            card = replace(membership.card, trackers=tuple(one.url for one in trackers))
            membership = replace(membership, card=card)
        session = RoomSession(membership, self._parts())
        running = asyncio.create_task(session.run())
        try:
            await session.wait_connected()
            yield session
        finally:
            session.close()
            running.cancel()
            await asyncio.wait([running])

    def _parts(self) -> RoomParts:
        return RoomParts(
            identity=self.identity,
            http=self.http,
            transport=SimpleNamespace(new_link=lambda: 1, send=lambda command: None),
            state=self.state,
            places=None,
            library=Library(),
            ice=IceSettings(),
            capabilities=dict,
            damaged=print,
            numbers=itertools.count(1),
            rng=random.Random(1),
            tasks=self.tasks,
        )

    async def close(self) -> None:
        await self.tasks.close()
        self.state.close()


@pytest.fixture
def room_node():
    """``room_node(root, name, http)`` makes the home of a node that a test puts into a room."""
    return RoomNode
