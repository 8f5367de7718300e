"""Each invariant complains of what it is for, and of nothing else; what no mutation shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from dreamer.protocol.limits import (
    LINKS_MAX_PER_NODE,
    ORIGIN_AFTER_NO_PROGRESS_S,
    REQUESTS_QUEUED_PER_PEER,
)
from dreamer.protocol.swarm.vocabulary import (
    BlockVerified,
    Cancel,
    Command,
    Complete,
    Event,
    Fetch,
    FinishFile,
    Lane,
    RequestRefused,
    Share,
    SourceId,
    SourceJoined,
    SourceLost,
    SourceMoved,
    Tick,
)
from dreamer.simulations.engine.catalogue import Model, models_of
from dreamer.simulations.engine.origin import ORIGIN
from dreamer.simulations.engine.outcome import simulate
from dreamer.simulations.engine.world import World
from dreamer.simulations.invariants import BrokenError, Watch
from dreamer.simulations.invariants.rates import BYTES_PER_MBIT, Excess
from dreamer.simulations.invariants.reachable import Stretch, reachable_blocks
from dreamer.simulations.scenario.model import (
    Group,
    ModelSpec,
    Network,
    OriginSpec,
    Partition,
    Relay,
    Scenario,
    Span,
    Wish,
)

A, B = SourceId("aa"), SourceId("bb")
SCENARIO = Scenario(
    "fake",
    "",
    (ModelSpec("m", 0.0335, files=2),),
    (Group("seeds", 1, holds=("m",)), Group("takers", 2, pulls=(Wish("m"),))),
    block_mib=4,
)
MODEL = models_of(SCENARIO)["m"]
ALL = MODEL.everything


@dataclass(eq=False)
class FakeNode:
    group: Group = SCENARIO.groups[1]
    name: str = "taker"
    index: int = 0
    id: bytes = b"t" * 32
    held: dict[str, int] = field(default_factory=dict)
    pulls: dict[str, object] = field(default_factory=dict)
    links: dict[int, object] = field(default_factory=dict)
    giving: object = None
    online: bool = True


@dataclass(eq=False)
class FakePull:
    node: FakeNode = field(default_factory=FakeNode)
    model: Model = MODEL
    present: int = 0
    core: object = None
    finished_at: float | None = None


class Stage:
    """A watch and one pull, whose planner is played by hand."""

    def __init__(self) -> None:
        self.watch = Watch()
        self.pull = FakePull()
        self.pull.node.pulls["m"] = self.pull
        self.now = 0.0
        self.say(None)

    def say(self, event: Event | None, *commands: Command) -> list[str]:
        """Have the planner hear and say something; return what was complained of so far."""
        for observer in self.watch.observers:
            observer.planned(self.pull, event, commands, self.now)
        return self.broken

    def join(self, source: SourceId, blocks: int = ALL, lane: Lane = Lane.DIRECT) -> None:
        self.say(SourceJoined(source, lane, blocks))

    def come(self, block: int, *, right: bool = True) -> None:
        for observer in self.watch.observers:
            size = MODEL.layout.block_size(block)
            observer.arrived(self.pull, Lane.DIRECT, block, size, right=right, now=self.now)

    def serve(self, block: int, request: int = 1, number: int = 5) -> list[str]:
        seed = FakeNode(SCENARIO.groups[0], "seed", 1, b"s" * 32)
        far = SimpleNamespace(node=self.pull.node, latency_s=0.02)
        end = SimpleNamespace(node=seed, far=far, number=number)
        for observer in self.watch.observers:
            observer.served(end, request, block, self.now)
        return self.broken

    @property
    def broken(self) -> list[str]:
        return [each.invariant for each in self.watch.violations]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_what_is_here_is_not_asked_for_again(stage) -> None:
    stage.join(A)
    stage.say(Tick(), Fetch(A, 1, 0, 2))
    stage.come(0)
    assert stage.say(BlockVerified(A, 1, 0)) == []
    assert stage.say(Tick(), Fetch(A, 2, 0, 1)) == ["nothing asked twice"]


def test_source_is_not_asked_again_for_what_it_owes(stage) -> None:
    stage.join(A)
    stage.say(Tick(), Fetch(A, 1, 0, 2))
    assert stage.say(Tick(), Fetch(A, 2, 1, 1)) == ["nothing asked twice"]


@pytest.mark.parametrize(
    "cause",
    [
        RequestRefused(A, 1, busy=True),
        SourceMoved(A, Lane.RELAY, usable=True),
        SourceJoined(A, Lane.WEBRTC, ALL),
    ],
)
def test_with_a_cause_a_source_is_asked_again(stage, cause) -> None:
    stage.join(A)
    stage.say(Tick(), Fetch(A, 1, 0, 2))
    assert stage.say(cause, Fetch(A, 2, 0, 2)) == []


def test_request_that_was_taken_back_may_be_made_again(stage) -> None:
    stage.join(A)
    stage.say(Tick(), Fetch(A, 1, 0, 2))
    assert stage.say(Tick(), Cancel(A, 1, None), Fetch(A, 2, 0, 2)) == []


def test_nobody_is_asked_who_is_gone(stage) -> None:
    stage.join(A)
    assert stage.say(SourceLost(A), Fetch(A, 1, 0, 1)) == ["requests in flight"]


def test_block_that_was_never_verified_is_not_offered_stored_or_counted(stage) -> None:
    stage.join(A)
    stage.come(0, right=False)
    for command in (Share(1), FinishFile(0), Complete()):
        before = len(stage.broken)
        assert stage.say(Tick(), command)[before:] == ["verified"]
    before = len(stage.broken)
    assert stage.say(BlockVerified(A, 1, 0))[before:] == ["verified"]


def test_more_bytes_are_not_counted_than_came(stage) -> None:
    stage.join(A)
    stage.come(0)
    size = MODEL.layout.block_size(0)
    stage.pull.core = SimpleNamespace(present=1, bytes_by_lane={Lane.DIRECT: size})
    assert stage.say(BlockVerified(A, 1, 0)) == []
    stage.pull.core.bytes_by_lane[Lane.DIRECT] += 1
    assert stage.say(BlockVerified(A, 1, 0)) == ["verified"]


def test_model_is_finished_only_if_all_of_it_is_there(stage) -> None:
    for block in range(MODEL.layout.block_count):
        stage.come(block)
    stage.pull.finished_at, stage.pull.present = 1.0, ALL & ~1
    for observer in stage.watch.observers:
        observer.pull_ended(stage.pull, 1.0)
    assert stage.broken == ["verified"]


def test_block_is_sent_once_for_a_request(stage) -> None:
    stage.join(A)
    stage.say(Tick(), Fetch(A, 1, 0, 2))
    assert stage.serve(0) == []
    assert stage.serve(1) == []
    assert stage.serve(1) == ["served once"]


def test_nothing_is_sent_without_being_asked(stage) -> None:
    stage.join(A)
    stage.say(Tick(), Fetch(A, 1, 0, 2))
    assert stage.serve(2) == ["served once"]
    assert stage.serve(0, request=9) == ["served once"] * 2


def test_block_on_its_way_may_come_though_it_was_called_off(stage) -> None:
    stage.join(A)
    stage.say(Tick(), Fetch(A, 1, 0, 4))
    stage.serve(0)
    stage.now = 1.0
    stage.say(Tick(), Cancel(A, 1, None))
    # Begun when the one before had gone, which was before the word came.
    stage.now = 1.5
    assert stage.serve(1) == []
    stage.now = 2.0
    assert stage.serve(2) == ["served once"]


def test_origin_may_be_asked_for_what_no_member_has(stage) -> None:
    stage.join(ORIGIN, lane=Lane.ORIGIN)
    stage.join(A, 0b1)
    assert stage.say(Tick(), Fetch(ORIGIN, 1, 1, 1)) == []
    assert stage.say(Tick(), Fetch(ORIGIN, 2, 0, 1)) == ["origin spared"]


@pytest.mark.parametrize("held", [0b1, 0b11])
def test_origin_may_be_asked_for_what_a_member_can_not_give_now(stage, held) -> None:
    stage.join(ORIGIN, lane=Lane.ORIGIN)
    stage.join(A, held)
    stage.say(SourceMoved(A, Lane.RELAY, usable=False))
    assert stage.say(Tick(), Fetch(ORIGIN, 1, 0, 1)) == []


def test_origin_may_be_asked_for_what_a_member_lets_time_out_unless_that_is_whole(stage) -> None:
    stage.join(ORIGIN, lane=Lane.ORIGIN)
    stage.join(A, 0b1)
    stage.say(Tick(), Fetch(A, 1, 0, 1))
    stage.say(Tick(), Cancel(A, 1, None))
    assert stage.say(Tick(), Fetch(ORIGIN, 2, 0, 1)) == []
    stage.join(B)
    stage.say(Tick(), Fetch(B, 3, 1, 1))
    stage.say(Tick(), Cancel(B, 3, None))
    assert stage.say(Tick(), Fetch(ORIGIN, 4, 1, 1)) == ["origin spared"]


def test_origin_may_be_asked_for_anything_once_members_bring_nothing(stage) -> None:
    stage.join(ORIGIN, lane=Lane.ORIGIN)
    stage.join(A)
    stage.now = ORIGIN_AFTER_NO_PROGRESS_S
    assert stage.say(Tick(), Fetch(ORIGIN, 1, 0, 1)) == []


def test_too_many_links_are_noticed(stage) -> None:
    stage.pull.node.links = dict.fromkeys(range(LINKS_MAX_PER_NODE))
    stage.join(A)
    assert stage.broken == []
    stage.pull.node.links[99] = None
    stage.join(B)
    assert stage.broken == ["links"]


def test_too_many_requests_that_wait_are_noticed(stage) -> None:
    waiting = REQUESTS_QUEUED_PER_PEER + 1
    seed = FakeNode(SCENARIO.groups[0], "seed", 1)
    seed.giving = SimpleNamespace(open_requests=lambda number: waiting)
    end = SimpleNamespace(node=seed, far=SimpleNamespace(node=stage.pull.node), peer=b"t", number=5)
    blocks: Sequence[int] = (0,)
    for observer in stage.watch.observers:
        observer.handed_out(end, MODEL, 1, blocks, 0.0)
    assert stage.broken == ["upload slots"]


def test_disk_that_is_too_small_for_what_is_kept_is_noticed(stage) -> None:
    node = stage.pull.node
    node.group = Group("takers", 1, disk_gb=0.01)
    world = SimpleNamespace(nodes=[node], models={"m": MODEL})
    node.world = world
    for observer in stage.watch.observers:
        observer.began(world)
    node.held["m"] = 0
    stage.come(0)
    assert stage.broken == ["disk"]


def test_rate_is_kept_over_any_stretch_of_time() -> None:
    limit = 8 * BYTES_PER_MBIT
    excess = Excess(limit)
    for second in range(100):
        assert excess.add(limit, float(second)) <= limit
    # A rest earns nothing beyond the burst.
    assert excess.add(3 * limit, 1000.0) == 3 * limit
    assert excess.add(-limit, 1000.0) == 2 * limit


# Reaching a full copy


def world_of(*groups: Group, **more: object) -> World:
    world = World(Scenario("reach", "", SCENARIO.models, groups, block_mib=4, **more))
    for node in world.nodes:
        node.online = True
        if node.group.pulls:
            node.pulls["m"] = object()
    return world


STRETCH = Stretch(100.0, 200.0)


def reached(world: World, during: Stretch = STRETCH) -> int:
    node = world.nodes[-1]
    return reachable_blocks(node, world.models["m"], world.nodes, world.scenario, during)


SEEDS = Group("seeds", 1, nat="symmetric", holds=("m",))
BEHIND = Group("takers", 1, nat="symmetric", pulls=(Wish("m"),))


def test_copy_is_reached_only_where_a_link_can_be() -> None:
    assert reached(world_of(SEEDS, BEHIND)) == 0
    assert reached(world_of(SEEDS, BEHIND, relays=(Relay(),))) == ALL
    helper = Group("helpers", 1, pulls=(Wish("m"),))
    assert reached(world_of(SEEDS, helper, BEHIND)) == ALL, "by way of one who pulls it too"


def test_partition_counts_while_it_lasts() -> None:
    cut = (Partition(Span(150.0, 160.0), ("seeds",)),)
    public = Group("seeds", 1, holds=("m",))
    assert reached(world_of(public, BEHIND, partitions=cut)) == 0
    assert reached(world_of(public, BEHIND, partitions=cut), Stretch(170.0, 200.0)) == ALL


def test_origin_is_reached_by_whoever_uses_it() -> None:
    origin = OriginSpec(holds=("m",))
    assert reached(world_of(BEHIND, origin=origin)) == ALL
    alone = Group("alone", 1, pulls=(Wish("m"),), uses_origin=False)
    assert reached(world_of(alone, origin=origin)) == 0
    cut = (Partition(Span(150.0, 160.0), ("takers",), origin_too=True),)
    assert reached(world_of(BEHIND, origin=origin, partitions=cut)) == 0


# The watch


def test_first_violation_ends_a_strict_run() -> None:
    watch = Watch(strict=True)
    stage = Stage()
    stage.watch = watch
    stage.say(None)
    with pytest.raises(BrokenError, match=r"verified: at 0\.000 s taker offers block 0"):
        stage.say(Tick(), Share(1))


def test_watching_changes_nothing() -> None:
    scenario = Scenario(
        "watched",
        "",
        (ModelSpec("m", 0.05),),
        (Group("seeds", 1, holds=("m",)), Group("takers", 4, pulls=(Wish("m", 0.0, 2.0),))),
        block_mib=4,
        network=Network(30.0),
        origin=OriginSpec(holds=("m",)),
    )
    watch = Watch()
    watched = simulate(scenario, 5, observers=watch.observers)
    assert watched.engine.trace_hash == simulate(scenario, 5).engine.trace_hash
    assert watch.checks > 100
    assert not watch.violations
