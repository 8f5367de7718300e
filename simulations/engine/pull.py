"""One machine's pull of one model: gives the daemon's own planner its events, does what it says.

As ``daemon/sharing/pull_job.py`` and ``shared_pull.py`` do it, on virtual time.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from functools import partial
from typing import TYPE_CHECKING

from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import CROWD_GATHER_S
from dreamer.protocol.link.messages import CancelWant, Follow, Unfollow, Want
from dreamer.protocol.swarm.download import Download
from dreamer.protocol.swarm.gathering import Command as GatheringCommand
from dreamer.protocol.swarm.gathering import Connect, Ended, Gathering, Named, Part, Seek
from dreamer.protocol.swarm.holders import Found
from dreamer.protocol.swarm.patience import Patience
from dreamer.protocol.swarm.vocabulary import (
    Blame,
    BlockRejected,
    BlockVerified,
    Cancel,
    Command,
    Complete,
    CrowdSeen,
    DiscoveryEnded,
    Drop,
    Event,
    Fetch,
    FileFinished,
    FinishFile,
    GiveUp,
    Lane,
    Share,
    SourceId,
    SourceJoined,
    SourceLost,
    SourceMoved,
    Tick,
)
from dreamer.simulations.engine.clock import Timer
from dreamer.simulations.engine.links import End
from dreamer.simulations.engine.liveness import Liveness
from dreamer.simulations.engine.naming import source_named
from dreamer.simulations.engine.origin import ORIGIN

if TYPE_CHECKING:
    from dreamer.simulations.engine.catalogue import Model
    from dreamer.simulations.engine.node import Node


class Pull:
    """A model on its way to a machine. ``core`` is None while the pull waits to be tried again."""

    def __init__(self, node: Node, model: Model) -> None:
        self.node = node
        self.model = model
        self.world = node.world
        self.started_at = self.world.clock.now
        self.finished_at: float | None = None
        self.gave_up = ""
        self.core: Download | None = None
        self.gathering: Gathering | None = None
        self._patience = Patience(node.now())
        self._answered: dict[int, End] = {}
        self._whole: dict[int, End] = {}
        self._idle: set[int] = set()
        self._sources: dict[SourceId, End] = {}
        self._asked: dict[tuple[SourceId, int], End] = {}
        # Blocks of those that were taken back; one that was on its way comes all the same.
        self._taken_back: dict[tuple[SourceId, int], int] = {}
        self._liveness = Liveness(self.world.clock, self._owing, self.feed)
        self._timer: Timer | None = None
        self._look: Timer | None = None

    @property
    def present(self) -> int:
        """The set of blocks that are here, verified."""
        return self.node.held.get(self.model.name, 0)

    @property
    def asked(self) -> Collection[tuple[SourceId, int]]:
        """What members were asked for and have not settled, by source and request."""
        return self._asked.keys()

    # Beginning and ending

    def begin(self) -> None:
        """Make a job: a planner that goes on from what is here."""
        node, now = self.node, self.node.now()
        self.core = Download(
            *(self.model.layout, self.present, node.requests, node.rng, now),
            own=source_named(node.id),
            pace=node.pace,
        )
        origin = self.world.origin if node.group.uses_origin else None
        has_origin = origin is not None and origin.holds(self.model)
        least_s = CROWD_GATHER_S if has_origin and node.group.uses_peers else 0.0
        self.gathering = Gathering(node.id, node.rng, now, least_s)
        self._carry_out(self.core.start(now), None)
        if has_origin:
            self.feed(SourceJoined(ORIGIN, Lane.ORIGIN, self.model.everything))
        for end in list(node.links.values()):
            self.link_up(end)
        self._keep_time()
        self.gather()

    def _end_job(self) -> None:
        for timer in (self._timer, self._look):
            if timer is not None:
                timer.cancel()
        self._timer = self._look = None
        core, self.core, self.gathering = self.core, None, None
        if core is None:
            return
        self._liveness.close()
        self.node.origin_requests.stop(self)
        for (_, request), end in self._asked.items():
            end.say(CancelWant(request, -1))
        for end in self.node.links.values():
            end.say(Unfollow(self.model.id))
        self._asked.clear()
        self._taken_back.clear()
        self._sources.clear()
        self._answered.clear()
        self._whole.clear()
        self._idle.clear()

    def abandon(self) -> None:
        """End it where it is: its machine goes."""
        self._end_job()

    def _give_up(self, reason: str) -> None:
        core = self.core
        assert core is not None, "only a planner gives up"
        helped = any(core.bytes_by_source.values())
        # As ``daemon/sharing/shared_pull.py``: without a tracker others may well have it.
        unheard = not self.world.reaches_tracker(self.node) and not self._answered
        done = self.model.size_bytes - core.missing_bytes
        self._end_job()
        if (helped or done or unheard) and self._patience.lasts(done, self.node.now()):
            pause_s = self._patience.next_pause()
            self._timer = self.world.clock.after(pause_s, self.begin)
            return
        self.gave_up = reason
        self.node.pull_ended(self)

    def _complete(self) -> None:
        self.finished_at = self.world.clock.now
        self._end_job()
        self.node.pull_ended(self)

    # Time

    def _keep_time(self) -> None:
        if self.core is None:
            return
        now = self.node.now()
        self._timer = self.world.clock.after(self.core.next_wake(now) - now, self._tick)

    def _tick(self) -> None:
        self.feed(Tick())
        self._keep_time()

    # Events

    def feed(self, event: Event) -> None:
        """Give the planner an event and do what it says."""
        core = self.core
        if core is None:
            return
        world = self.world
        now = world.clock.now
        commands = core.handle(event, now + self.node.skew_s)
        world.note_plan(self, event, commands)
        world.observers.planned(self, event, commands, now)
        for command in commands:
            self._perform(command)

    def _carry_out(self, commands: list[Command], event: Event | None) -> None:
        world = self.world
        world.note_plan(self, event, commands)
        world.observers.planned(self, event, commands, world.clock.now)
        for command in commands:
            self._perform(command)

    def _perform(self, command: Command) -> None:
        if isinstance(command, Fetch):
            # By far the most frequent: not to be compared with all the others.
            self._fetch(command.source, command)
            return
        match command:
            case Cancel(source):
                self._cancel(source, command)
            case Share(blocks):
                self.node.gained(self.model, blocks)
            case FinishFile(index):
                self._finish(index)
            case Blame(source) | Drop(source):
                self._do_without(source, ban=isinstance(command, Blame))
            case Complete():
                self._complete()
            case GiveUp(reason):
                self._give_up(reason)

    def _do_without(self, source: SourceId, *, ban: bool) -> None:
        end = self._sources.get(source)
        if end is None:
            return
        if ban:
            self.world.blamed += 1
            self.node.ban(end)
        else:
            self.world.unlink(end)

    def _finish(self, file_index: int) -> None:
        layout = self.model.layout
        size = sum(map(layout.block_size, layout.blocks_of_file(file_index)))
        self.world.clock.after(self.node.finish_s(size), partial(self._finished, file_index))

    def _finished(self, file_index: int) -> None:
        self.feed(FileFinished(file_index))

    def _fetch(self, source: SourceId, command: Fetch) -> None:
        if source == ORIGIN:
            self.node.origin_requests.begin(self, command)
            return
        end = self._sources.get(source)
        if end is None:
            return
        self._asked[source, command.request] = end
        self._liveness.watch(source, end.far)
        numbers = (command.request, self.model.id, command.first, command.count)
        end.say(Want(*numbers, end.direct_up))

    def _cancel(self, source: SourceId, command: Cancel) -> None:
        if source == ORIGIN:
            self.node.origin_requests.cancel(self, command)
        elif end := self._asked.get((source, command.request)):
            block = -1 if command.block is None else command.block
            if self.core is None or not self.core.is_open(source, command.request):
                # All that was left is called off, of which this may be the first block.
                block = -1
                del self._asked[source, command.request]
                self._taken_back.pop((source, command.request), None)
            elif command.block is not None:
                key = (source, command.request)
                self._taken_back[key] = self._taken_back.get(key, 0) | 1 << block
            end.say(CancelWant(command.request, block))

    def _settle(self, source: SourceId, request: int) -> None:
        if self.core is None or not self.core.is_open(source, request):
            self._asked.pop((source, request), None)
            self._taken_back.pop((source, request), None)

    def _owing(self) -> Container[SourceId]:
        return {source for source, _ in self._asked}

    # What links report

    def link_up(self, end: End) -> None:
        """Ask a member what it holds."""
        end.say(Follow(self.model.id))

    def link_down(self, end: End) -> None:
        """Do without a member."""
        source = end.source
        self._answered.pop(end.number, None)
        self._whole.pop(end.number, None)
        self._idle.discard(end.number)
        self._asked = {key: asked for key, asked in self._asked.items() if asked is not end}
        if self._sources.pop(source, None) is not None:
            self.feed(SourceLost(source))
        self.gather()

    def joined(self, end: End, joined: SourceJoined) -> None:
        """Take a member's word on what it holds."""
        first = end.number not in self._answered
        self._answered[end.number] = end
        if joined.blocks == self.model.everything:
            self._whole[end.number] = end
        idle = not (joined.blocks or joined.fetching)
        (self._idle.add if idle else self._idle.discard)(end.number)
        self._sources[joined.source] = end
        self.feed(joined)
        if first:
            self.gather()

    def block_here(self, source: SourceId, request: int, block: int, *, right: bool) -> None:
        """Take the verdict on a block that came in."""
        if self.core is None:
            return
        verdict = BlockVerified if right else BlockRejected
        if self.core.present >> block & 1 or not right:
            self.world.observers.wasted(
                self.node, self.model.layout.block_size(block), self.world.clock.now
            )
        self.feed(verdict(source, request, block))
        self._settle(source, request)

    def forget_request(self, source: SourceId, request: int) -> bool:
        """Expect nothing more of a request; False: nothing was expected."""
        return self._asked.pop((source, request), None) is not None

    def moved(self, end: End, moved: SourceMoved) -> None:
        """Ask a member over its lane as it is now; what it was asked for before is void."""
        if moved.source not in self._sources:
            return
        for source, request in [key for key in self._asked if key[0] == moved.source]:
            end.say(CancelWant(request, -1))
            del self._asked[source, request]
        self.feed(moved)

    def waits_on(self, end: End) -> bool:
        """Return whether blocks that a member was asked for are still to come."""
        return any(asked is end for asked in self._asked.values())

    def waits_for(self, source: SourceId, request: int, block: int) -> bool:
        """Return whether a block of a request would be taken if it came."""
        key = (source, request)
        return key in self._asked and not self._taken_back.get(key, 0) >> block & 1

    # Who else there is

    def linked(self) -> Collection[NodeId]:
        """Who is linked, but for those that neither hold nor fetch any of it."""
        return [end.peer for end in self.node.links.values() if end.number not in self._idle]

    def coming_up(self) -> Collection[NodeId]:
        """Who is being linked to."""
        return self.node.connecting

    @property
    def unanswered(self) -> bool:
        """Whether somebody linked has yet to say what it holds."""
        return any(number not in self._answered for number in self.node.links)

    @property
    def whole(self) -> Collection[NodeId]:
        """Linked members that hold everything, as they say."""
        return [end.peer for end in self._whole.values()]

    @property
    def deserted(self) -> bool:
        """Whether those who fetch for a large crowd have brought nothing for long."""
        return self.core is not None and self.core.deserted

    def gather(self) -> None:
        """Have a look whom to link to, now and whenever the core says."""
        gathering = self.gathering
        if gathering is None or not self.node.group.uses_peers:
            if gathering is not None and self.core is not None:
                self.gathering = None
                self.feed(DiscoveryEnded())
            return
        now = self.node.now()
        self._gather(gathering.tick(self, now))
        if self.gathering is not gathering:
            return
        if self._look is not None:
            self._look.cancel()
        wake = gathering.next_wake(now)
        if wake < float("inf"):
            # As soon as it says, like the daemon; time must pass for the clock to come to an end.
            self._look = self.world.clock.after(max(wake - now, 1e-4), self.gather)

    def _gather(self, commands: Sequence[GatheringCommand]) -> None:
        for command in commands:
            match command:
                case Seek():
                    self.world.seek(self)
                case Connect(node):
                    self.world.connect(self.node, node)
                case Part(node):
                    self._part(node)
                case Named(nodes, committee):
                    named = tuple(map(self.world.source_of, nodes))
                    chosen = None
                    if committee is not None:
                        chosen = tuple(map(self.world.source_of, committee))
                    self.feed(CrowdSeen(named, chosen))
                case Ended():
                    self.feed(DiscoveryEnded())

    def _part(self, node: NodeId) -> None:
        end = self.node.by_peer.get(node)
        if end is not None and not self.node.waits_on(end):
            self.world.unlink(end)

    def found(self, found: Found) -> None:
        """Take the answer to a search."""
        if self.gathering is not None:
            answer = (found.nodes, found.committee, self.node.now(), found.whole)
            self._gather(self.gathering.found(*answer))
            self.gather()
