"""The smaller facets of the node in memory: readiness, costs, caches, retention."""

from __future__ import annotations

import time

from dreamer.daemon.ports import Progress
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
from dreamer.daemon.surfaces.costs import (
    CostAlert,
    CostFigures,
    CostReport,
    LaneCost,
    ModelCost,
    NodeCost,
    RoomCost,
)
from dreamer.daemon.surfaces.offload_rules import OffloadRulesInfo
from dreamer.daemon.surfaces.readiness import PreloadInfo, ReadyInfo
from dreamer.daemon.surfaces.retention import (
    GarbageKind,
    GarbageReport,
    Judged,
    KeepRules,
    PolicyInfo,
    RetentionReport,
)
from dreamer.protocol.costs import check_month
from dreamer.protocol.errors import ForbiddenError, NoMatchError
from in_memory.inference import FAILURES, MODEL_ID


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
        if ref in FAILURES:
            raise FAILURES[ref]
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


class MemoryOffloadRules:
    """A room whose rules are what was set last."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.allow: tuple[str, ...] | None = None

    async def rules(self, room):
        return OffloadRulesInfo(room or "lab", self.allow, f"rules [bold]{self.allow}")

    async def set_rules(self, room, allow):
        if room == "theirs":
            raise ForbiddenError("only admins set the rules of a room: ask one")
        self.asked.append(("set_rules", room, allow))
        self.allow = None if allow is None else tuple(allow)
        return await self.rules(room)


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
