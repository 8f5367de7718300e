"""The daemon's driver and the simulator's tell the planner the same, and hear the same from it.

A room of a few machines pulls a model twice: once through ``daemon/sharing`` (``PullJob``,
``PeerLanes``, ``Serving``, ``Discovery``, stores with real files) on a loop whose clock jumps, once
through ``simulations/engine``. Every event that reaches ``Download.handle`` is noted, and every
command that comes back: both are equal, in order and content; times to a microsecond, which is
rounding in sums of the same numbers.

Links stand before the pulls begin, since how they come up is not the planner's business. Left out:
``BytesArrived``, which says that a slow source is alive. The daemon hears it of every chunk, the
simulator looks now and then (``liveness.py``), and here all blocks come within its patience.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace

import pytest

from dreamer.protocol.ids import NodeId
from dreamer.protocol.swarm.download import Download
from dreamer.protocol.swarm.vocabulary import BlockVerified, BytesArrived, Cancel, Fetch, SourceLost
from dreamer.simulations.engine.node import Node
from dreamer.simulations.engine.world import World
from dreamer.simulations.scenario.model import Group, Line, ModelSpec, Network, Scenario, Wish

MIB = 2**20
BYTES_S = 125_000.0
TOLERANCE_S = 1e-6
HERE, MODEL = "here", "m"


@dataclass(frozen=True)
class Entry:
    """What a planner heard at a moment, and what it said."""

    at_s: float
    heard: object
    said: tuple[object, ...]


@pytest.fixture
def transcripts(monkeypatch):
    """``transcripts()``: what each planner has heard and said since the last call, in the order
    in which they were first told anything."""
    heard: list[tuple[Download, Entry]] = []
    handle = Download.handle

    def noting(self, event, now):
        said = handle(self, event, now)
        if not isinstance(event, BytesArrived):
            heard.append((self, Entry(now, event, tuple(said))))
        return said

    monkeypatch.setattr(Download, "handle", noting)

    def taken() -> list[list[Entry]]:
        by_planner: dict[int, list[Entry]] = {}
        for planner, entry in heard:
            by_planner.setdefault(id(planner), []).append(entry)
        heard.clear()
        return list(by_planner.values())

    return taken


def scenario(model: ModelSpec, *groups: Group) -> Scenario:
    """Return a room of machines that reach one another in 13 ms, and the tracker in 17."""
    return Scenario(
        "both drivers", "", (model,), groups, block_mib=1, rate_interval_s=0.0,
        network=Network(latency_ms=17.0, lines=(Line(HERE, HERE, 13.0),)),
    )  # fmt: skip


def machine(
    name: str, up: float, down: float, pulls_at: float | None = None, leaves_at: float = 0.0
) -> Group:
    """Return a machine; the pulls of two never begin at once, so that they come in this order."""
    if pulls_at is None:
        kind = Group(name, 1, up, down, nat="full_cone", holds=(MODEL,))
        return replace(kind, leaves_at_s=leaves_at)
    return Group(name, 1, up, down, nat="full_cone", pulls=(Wish(MODEL, pulls_at, pulls_at),))


def model(mib: float, files: int) -> ModelSpec:
    """Return a model whose files end in the middle of a block."""
    return ModelSpec(MODEL, mib * MIB / 1e9, files)


ROOMS = {
    "two": scenario(model(7.3, 2), machine("seed", 80, 80), machine("one", 90, 110, 5.0)),
    "three": scenario(
        model(12.5, 3),
        machine("seed", 80, 80),
        machine("one", 90, 110, 5.0),
        machine("two", 60, 130, 5.31),
    ),
    "slow seed and fast one": scenario(
        model(9.1, 1),
        machine("slow", 8, 80),
        machine("fast", 160, 80),
        machine("one", 90, 310, 5.0),
        machine("late", 75, 210, 6.07),
    ),
    "seed that leaves": scenario(
        model(8.2, 2),
        machine("leaves", 160, 80, leaves_at=5.42),
        machine("stays", 40, 80),
        machine("one", 90, 310, 5.0),
    ),
}


def simulated(room: Scenario, seed: int) -> list[Node]:
    """Run a room in the simulator, all linked; return its machines."""
    world = World(room, seed)
    for index, node in enumerate(world.nodes):
        for other in world.nodes[:index]:
            world.clock.at(0.001, lambda one=other, peer=node.id: world.connect(one, peer))
    world.run()
    return world.nodes


def driven(house, room: Scenario, seed: int, machines: list[tuple[str, NodeId, Group]]) -> None:
    """Run a room of daemons' parts: members of the same names, rates and dice."""
    home = house(seed, room.network.lines[0].latency_ms / 1e3, room.network.latency_ms / 1e3)
    members = []
    for name, node, group in machines:
        rates = (group.up_mbit * BYTES_S, group.down_mbit * BYTES_S)
        members.append(home.member(name, node, seed, *rates))
        for other in members[:-1]:
            home.link(other, members[-1])
    spec = room.models[0]
    each, rest = divmod(int(spec.size_gb * 1e9), spec.files)
    contents = {
        f"{index}.bin": random.Random(index).randbytes(each + (index < rest))
        for index in range(spec.files)
    }
    groups = [group for _, _, group in machines]
    holders = [member for member, group in zip(members, groups, strict=True) if group.holds]
    manifest, outboard = home.publish(holders, contents)

    for member, group in zip(members, groups, strict=True):
        if group.leaves_at_s:
            home.leave(member, group.leaves_at_s)

    async def pulls() -> None:
        await asyncio.gather(
            *(
                home.pull(member, manifest, outboard, wish.from_s)
                for member, group in zip(members, groups, strict=True)
                for wish in group.pulls
            )
        )

    home.loop.run_until_complete(pulls())


def same(ours: list[Entry], theirs: list[Entry]) -> None:
    """Fail at the first entry that differs."""
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        assert (one.heard, one.said) == (other.heard, other.said), f"entry {number}: {one} {other}"
        assert one.at_s == pytest.approx(other.at_s, abs=TOLERANCE_S), f"entry {number}: {one}"
    assert len(ours) == len(theirs)


@pytest.mark.parametrize(("room", "seed"), [*((room, 1) for room in ROOMS), ("three", 2)])
def test_both_drivers_have_the_same_transcript(house, transcripts, room, seed):
    nodes = simulated(ROOMS[room], seed)
    by_simulator = transcripts()
    driven(house, ROOMS[room], seed, [(node.name, node.id, node.group) for node in nodes])
    by_daemon = transcripts()
    assert len(by_simulator) == len(by_daemon) == sum(bool(node.group.pulls) for node in nodes)
    for ours, theirs in zip(by_simulator, by_daemon, strict=True):
        assert sum(isinstance(entry.heard, BlockVerified) for entry in ours) > 6
        same(ours, theirs)


def test_rooms_are_worth_comparing(transcripts):
    """Requests are taken back, peers give what they got, and one who leaves is done without."""
    for room in ("slow seed and fast one", "seed that leaves"):
        simulated(ROOMS[room], 1)
    entries = [entry for planner in transcripts() for entry in planner]
    said = [command for entry in entries for command in entry.said]
    assert any(isinstance(command, Cancel) for command in said)
    assert any(isinstance(entry.heard, SourceLost) for entry in entries)
    assert len({command.source for command in said if isinstance(command, Fetch)}) > 4
