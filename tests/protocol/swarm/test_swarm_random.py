"""Any order of events: what is missing and asked of nobody can always be asked of somebody."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from dreamer.protocol.limits import BUSY_RETRY_S, MIB
from dreamer.protocol.swarm.bitfield import full, members, span
from dreamer.protocol.swarm.vocabulary import (
    BlockRejected,
    BlocksFound,
    BlockVerified,
    BytesArrived,
    Cancel,
    Command,
    Complete,
    DiscoveryEnded,
    Event,
    Fetch,
    GiveUp,
    Lane,
    RequestRefused,
    Share,
    SourceGained,
    SourceId,
    SourceJoined,
    SourceLost,
    Tick,
)

BLOCKS = 60
SEEDER = SourceId("seeder")


@dataclass
class World:
    """The other ends, as a driver would see them: who is there, and what each was asked for."""

    rng: Random
    here: set[SourceId] = field(default_factory=set)
    open: dict[tuple[SourceId, int], int] = field(default_factory=dict)
    shared: int = 0

    def hear(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Fetch(source, request, first, count):
                    assert source in self.here, "only who is there can be asked"
                    assert not span(first, count) & self.shared, "what is here is not asked for"
                    self.open[source, request] = span(first, count)
                case Cancel(source, request, block):
                    left = self.open.get((source, request), 0)
                    self.open[source, request] = 0 if block is None else left & ~(1 << block)
                case Share(blocks):
                    assert not blocks & self.shared, "a block is shared once"
                    self.shared |= blocks

    def lose(self, source: SourceId) -> None:
        self.here.discard(source)
        self.open = {key: left for key, left in self.open.items() if key[0] != source}

    def event(self, names: list[SourceId]) -> Event:
        kind = self.rng.randrange(10)
        source = self.rng.choice(names)
        waiting = [key for key, left in self.open.items() if left]
        if kind == 0:
            self.here.add(source)
            return SourceJoined(source, Lane.WEBRTC, self.rng.getrandbits(BLOCKS))
        if kind == 1 and self.rng.random() < 0.3:
            self.lose(source)
            return SourceLost(source)
        if kind == 2:
            return SourceGained(source, self.rng.getrandbits(BLOCKS))
        if kind == 3:
            return BytesArrived(source, self.rng.randrange(MIB))
        if kind == 4 and self.rng.random() < 0.2:
            found = 1 << self.rng.randrange(BLOCKS)
            return BlocksFound(found)
        if not waiting:
            return Tick()
        return self._answer(*self.rng.choice(waiting))

    def _answer(self, source: SourceId, request: int) -> Event:
        block = self.rng.choice(list(members(self.open[source, request])))
        chance = self.rng.random()
        if chance < 0.05:
            self.lose(source)
            return BlockRejected(source, request, block)
        if chance < 0.15:
            self.open[source, request] = 0
            return RequestRefused(source, request, busy=chance < 0.1)
        if chance < 0.3:
            return Tick()
        self.open[source, request] &= ~(1 << block)
        return BlockVerified(source, request, block)


@pytest.mark.parametrize("seed", range(60))
def test_no_block_is_ever_lost(play, seed: int) -> None:
    rng = Random(seed)
    plan = play(*[BLOCKS // 6 * MIB] * 6, seed=seed)
    world = World(rng)
    names = [SourceId(name) for name in "abcdef"]
    world.hear(plan >> DiscoveryEnded())
    for _ in range(rng.randrange(50, 400)):
        plan.after(rng.random() * rng.choice([0.01, 1, 5]))
        world.hear(plan >> world.event(names))
        if any(isinstance(command, GiveUp) for command in plan.said):
            return
    for name in names:
        world.lose(name)
        world.hear(plan >> SourceLost(name))
    assert not any(world.open.values())
    world.here.add(SEEDER)
    world.hear(plan.after(BUSY_RETRY_S) >> SourceJoined(SEEDER, Lane.WEBRTC, full(BLOCKS)))
    while waiting := [key for key, left in world.open.items() if left]:
        source, request = waiting[0]
        for block in list(members(world.open[source, request])):
            world.open[source, request] &= ~(1 << block)
            world.hear(plan.after(0.01) >> BlockVerified(source, request, block))
    assert plan.core.missing == 0
    assert world.shared == full(BLOCKS)
    assert plan.finish_files() == [Complete()]
