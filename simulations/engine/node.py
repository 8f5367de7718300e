"""A machine: the daemon's own pure parts, and what carries out their commands here.

Everything that is decided is decided in ``protocol/``: ``Download`` (what to ask of whom),
``Gathering`` (whom to link to), ``Giving`` and ``Uploads`` (whom to send what), ``Shaping`` and
``RelayBudget`` (limits). This file moves messages and blocks, and lets time pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.limits import BAN_S, UPLOAD_SLOTS
from dreamer.protocol.link.messages import Gained, Have, Message, Refuse
from dreamer.protocol.shaping.meters import Shaping
from dreamer.protocol.shaping.uploads import Uploads
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm import giving_vocabulary as giving
from dreamer.protocol.swarm.giving import Giving
from dreamer.protocol.swarm.giving_vocabulary import Failure
from dreamer.protocol.swarm.vocabulary import (
    Lane,
    RequestRefused,
    SourceGained,
    SourceJoined,
)
from dreamer.simulations.engine import news
from dreamer.simulations.engine.catalogue import GB, Model
from dreamer.simulations.engine.clock import FOREVER, Timer
from dreamer.simulations.engine.limits import Pace, limits_of
from dreamer.simulations.engine.links import End
from dreamer.simulations.engine.misdeeds import Honest, conduct_of
from dreamer.simulations.engine.origin import ORIGIN, OriginRequests
from dreamer.simulations.engine.pull import Pull
from dreamer.simulations.engine.relays import Relaying

if TYPE_CHECKING:
    from dreamer.simulations.engine.world import World
    from dreamer.simulations.scenario.model import Group

FINISH_S = 0.05
DAY_S = 86_400.0
GONE = "its machine left"
MB = 1e6


class Node:
    """One machine. ``held`` maps the name of a model to the set of its blocks that are here."""

    def __init__(self, world: World, index: int, name: str, node_id: NodeId, group: Group) -> None:
        self.world = world
        self.index = index
        self.name = name
        self.id = node_id
        self.group = group
        self.online = False
        self.rng = Random(f"{world.seed}/{name}")
        self.requests = itertools.count(1)
        self.held: dict[str, int] = {}
        self.pulls: dict[str, Pull] = {}
        self.links: dict[int, End] = {}
        self.by_peer: dict[NodeId, End] = {}
        self.connecting: dict[NodeId, None] = {}
        self.banned: dict[NodeId, float] = {}
        self.pipes_up: tuple[int, ...] = ()
        self.pipes_down: tuple[int, ...] = ()
        self.left_once = False
        self.gone_for_good = False
        self.up_bytes = 0
        self.down_bytes = 0
        self.conduct = Honest() if group.misdeed_from_s else conduct_of(group.misdeed)
        self.relaying = Relaying(self)
        self.origin_requests: OriginRequests
        # Steady clocks begin at nothing when a machine does: behind is ahead of another day.
        self.skew_s = group.clock_skew_s % DAY_S
        self._shaping = Shaping(limits_of(group))
        self._shaping.set_time(0, self.now())
        self.pace = Pace(self, self._shaping)
        self._hash_free_at = 0.0
        self._wake: Timer | None = None
        self.giving = self._new_giving()

    def _new_giving(self) -> Giving:
        uploads = Uploads(UPLOAD_SLOTS, self._shaping.up, self.world.block_bytes)
        return Giving(uploads)

    def now(self) -> float:
        """Return the time by this machine's own clock."""
        return self.world.clock.now + self.skew_s

    def concerned_with(self, model: str) -> bool:
        """Return whether it holds or fetches a model."""
        return model in self.pulls or model in self.held

    # Coming and going

    def join(self) -> None:
        """Come: offer what is here, and go on with what was begun."""
        self.online = True
        self.giving = self._new_giving()
        for name, blocks in self.held.items():
            self._offer(self.world.models[name], blocks)
        self.world.observers.joined(self, self.world.clock.now)
        for pull in list(self.pulls.values()):
            pull.begin()

    def leave(self) -> None:
        """Go, without a word: links end, requests are lost, the disk stays."""
        self.online = False
        for pull in self.pulls.values():
            pull.abandon()
        for end in list(self.links.values()):
            self.world.unlink(end)
        self.connecting.clear()
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        self.world.observers.left(self, self.world.clock.now)

    def pull(self, model: Model) -> None:
        """Begin to pull a model, if there is room for it."""
        if model.name in self.pulls or self.held.get(model.name) == model.everything:
            self.world.count_done(self)
            return
        pull = self.pulls[model.name] = Pull(self, model)
        self.world.observers.pull_began(pull, self.world.clock.now)
        if reason := self._hopeless(model):
            pull.gave_up = reason
            self.pull_ended(pull)
            return
        self.held.setdefault(model.name, 0)
        if self.online:
            self._offer(model, self.held[model.name])
            self.world.announce(self, model, whole=False)
            pull.begin()

    def lose_disk(self) -> None:
        """Forget what was fetched; pulls begin at nothing when it comes back."""
        kept = self.group.holds
        self.held = {name: blocks for name, blocks in self.held.items() if name in kept}
        for pull in self.pulls.values():
            self.held[pull.model.name] = 0

    def turn(self) -> None:
        """Do from now on what its group does wrong."""
        self.conduct = conduct_of(self.group.misdeed)
        for end in list(self.links.values()):
            self.conduct.linked(end)

    def go_for_good(self) -> None:
        """Be gone, and never come back: what it was to pull counts no more."""
        self.gone_for_good = True
        for pull in list(self.pulls.values()):
            pull.gave_up = GONE
            self.pull_ended(pull)

    def _hopeless(self, model: Model) -> str:
        """Return why a pull can't even begin; empty if it can."""
        if self.gone_for_good:
            return GONE
        # As the daemon does it: room for the whole is made before anything is fetched.
        others = (name for name in self.held if name != model.name)
        taken = sum(self.world.models[name].size_bytes for name in others)
        if 0 < self.group.disk_gb * GB < taken + model.size_bytes:
            return "the disk is full"
        return ""

    def pull_ended(self, pull: Pull) -> None:
        """Note that a pull is over, for good or bad."""
        self.pulls.pop(pull.model.name, None)
        if pull.finished_at is not None:
            self.world.announce(self, pull.model, whole=True)
        self.world.pull_ended(pull)

    # Links

    def link_up(self, end: End) -> None:
        """Take a link that stands."""
        self.links[end.number] = end
        self.by_peer[end.peer] = end
        self.connecting.pop(end.peer, None)
        if end.lane is Lane.RELAY:
            self.relaying.link_up(end)
        for pull in list(self.pulls.values()):
            if self.group.uses_peers:
                pull.link_up(end)
        self.conduct.linked(end)

    def link_down(self, end: End) -> None:
        """Do without a link."""
        del self.links[end.number]
        del self.by_peer[end.peer]
        self.relaying.link_down(end)
        self.giving.link_down(end.number)
        for pull in list(self.pulls.values()):
            pull.link_down(end)
        self._wake_later()

    def waits_on(self, end: End) -> bool:
        """Return whether blocks are still to come over a link, for any pull."""
        return any(pull.waits_on(end) for pull in self.pulls.values())

    def ban(self, end: End) -> None:
        """Deal no more with who sent something wrong."""
        self.banned[end.peer] = self.world.clock.now + BAN_S
        self.world.unlink(end)

    def shuns(self, node: NodeId) -> bool:
        """Return whether a node is banned."""
        return self.banned.get(node, 0.0) > self.world.clock.now

    # Messages

    def heard(self, end: End, message: Message) -> None:
        """Take a message; whoever sends what can't be loses the link."""
        try:
            if isinstance(message, Refuse):
                self._refused(end, message.request, message.busy)
                return
            self._give(self.giving.message(end, message, self.now()))
            if isinstance(message, Have | Gained):
                self._about_holdings(end, message)
        except RemoteProtocolError:
            self.ban(end)

    def _about_holdings(self, end: End, message: Have | Gained) -> None:
        model = self.world.models_by_id[ManifestId(message.manifest)]
        pull = self.pulls.get(model.name)
        if pull is None or pull.core is None:
            return
        source = end.source
        if isinstance(message, Gained):
            pull.feed(SourceGained(source, bitfield.span(message.first, message.count)))
            return
        count = model.layout.block_count
        held = bitfield.decode(message.blocks, count) if message.blocks else 0
        fetching = bool(message.blocks) and held != model.everything
        pull.joined(end, SourceJoined(source, end.lane, held, fetching))
        if end.bulk_spent:
            self.relaying.say_moved(pull, end)

    def _refused(self, end: End, request: int, busy: bool) -> None:
        source = end.source
        for pull in list(self.pulls.values()):
            if pull.forget_request(source, request) or not busy:
                pull.feed(RequestRefused(source, request, busy))

    # Giving

    def _offer(self, model: Model, blocks: int) -> None:
        count = model.layout.block_count
        self._give(self.giving.offer(model.id, blocks, count, self.now()))

    def gained(self, model: Model, blocks: int) -> None:
        """Keep blocks that were verified, and offer them."""
        self.held[model.name] = self.held.get(model.name, 0) | blocks
        self.world.verified(sum(map(model.layout.block_size, bitfield.members(blocks))))
        self._give(self.giving.gained(model.id, blocks, self.now()))

    def slice_sent(self, end: End, request: int, failed: Failure | None = None) -> None:
        """Go on with the next part of it, or tell the peer that it won't come."""
        self._give(self.giving.sent(end.number, request, self.now(), failed))

    def lane_changed(self, end: End) -> None:
        """Refuse what may not go over a link any more, or go on."""
        self._give(self.giving.lane_changed(end, self.now()))

    def _give(self, commands: Sequence[giving.Command]) -> None:
        self.carry_out(commands)
        self._wake_later()

    def carry_out(self, commands: Sequence[giving.Command]) -> None:
        """Do what ``Giving`` says."""
        for command in commands:
            if isinstance(command, giving.Tell):
                links = self.links
                ends = [links[link] for link in command.links if link in links]
                news.tell(self, ends, command.message)
                continue
            end = self.links.get(command.link)
            if end is None:
                continue
            if isinstance(command, giving.Say):
                end.say(command.message)
            elif isinstance(command, giving.SendBlocks):
                model = self.world.models_by_id[command.model]
                self.conduct.send(end, command.request, model, command.blocks)
            else:
                end.stop(command.request, command.block)

    def _wake_later(self) -> None:
        wake = self.giving.next_wake(self.now())
        if self._wake is not None:
            if self._wake.happen is not None and self._wake.at + self.skew_s <= wake:
                return
            self._wake.cancel()
            self._wake = None
        if wake < FOREVER:
            self._wake = self.world.clock.at(wake - self.skew_s, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self._give(self.giving.tick(self.now()))

    # Blocks that come in

    def block_came(self, end: End, model: Model, request: int, block: int, size_bytes: int) -> None:
        """Verify a block of a member's, which takes its time, and tell the planner."""
        self.down_bytes += size_bytes
        end.far.node.up_bytes += size_bytes
        pull, source = self.pulls.get(model.name), end.source
        if pull is None or not pull.waits_for(source, request, block):
            self.world.observers.wasted(self, size_bytes, self.world.clock.now)
            return
        right = end.far.node.conduct.right
        self.world.observers.arrived(
            pull, end.lane, block, size_bytes, right=right, now=self.world.clock.now
        )
        verdict = partial(pull.block_here, source, request, block, right=right)
        self._after_hashing(size_bytes, verdict)

    def origin_block_came(self, pull: Pull, request: int, block: int) -> None:
        """Verify a block of the origin's."""
        size = pull.model.layout.block_size(block)
        self.down_bytes += size
        now = self.world.clock.now
        self.world.observers.arrived(pull, Lane.ORIGIN, block, size, right=True, now=now)
        self._after_hashing(size, partial(pull.block_here, ORIGIN, request, block, right=True))

    def _after_hashing(self, size_bytes: int, verdict: partial[None]) -> None:
        if not self.group.hash_mb_s:
            verdict()
            return
        # One block after the other: a lane hashes in one thread.
        begin = max(self._hash_free_at, self.world.clock.now)
        self._hash_free_at = begin + size_bytes / (self.group.hash_mb_s * MB)
        self.world.clock.at(self._hash_free_at, verdict)

    def finish_s(self, size_bytes: int) -> float:
        """Return how long the check of a whole file takes, and its way into the store."""
        rate = self.group.hash_mb_s * MB
        return FINISH_S + (size_bytes / rate if rate else 0.0)
