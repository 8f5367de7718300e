"""The node in memory: one room, one model, and its facets."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from dreamer.daemon.ports import (
    MeetingText,
    PeerInfo,
    Progress,
    PullReceipt,
    PushReceipt,
    RoomInfo,
    TorrentReceipt,
)
from dreamer.daemon.surfaces.catalogue import ModelInfo
from dreamer.protocol.errors import InputError, RemoteError
from in_memory.facets import (
    MemoryCaches,
    MemoryCosts,
    MemoryOffloadRules,
    MemoryReadiness,
    MemoryRetention,
)
from in_memory.inference import FAILURES, MODEL_ID, MemoryInference


class MemoryNode:
    """One room, one model. A REF named in ``FAILURES`` fails so; ``slow`` never ends by itself."""

    FAILURES: ClassVar = FAILURES

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.readiness = MemoryReadiness()
        self.costs = MemoryCosts()
        self.caches = MemoryCaches()
        self.retention = MemoryRetention()
        self.offload_rules = MemoryOffloadRules()
        self.inference = MemoryInference()
        self.begun = self.inference.begun
        self.cancelled = self.inference.cancelled
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
