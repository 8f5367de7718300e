"""No byte is kept, offered or counted that was not verified; a model is whole if every block is.

Whether a block is right is known to the run, not to its machines: a machine that takes a wrong one
for right has skipped the verification, whatever it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.vocabulary import (
    BlockVerified,
    Complete,
    FinishFile,
    Lane,
    Share,
    SourceGained,
    SourceId,
    SourceJoined,
)
from dreamer.simulations.engine.naming import source_named
from dreamer.simulations.engine.rightness import Rightness
from dreamer.simulations.invariants.books import Account, Books
from dreamer.simulations.invariants.invariant import Check, Complain, Invariant, naming

if TYPE_CHECKING:
    from dreamer.simulations.engine.node import Node
    from dreamer.simulations.engine.pull import Pull
    from dreamer.simulations.engine.world import World


class Verified(Invariant):
    """Keeps, for each machine, the blocks that came to it right or lay there from the start."""

    name = "verified"

    def __init__(self, books: Books, complain: Complain) -> None:
        super().__init__(books, complain)
        self._rightness = Rightness()
        self._nodes: dict[SourceId, Node] = {}
        self._came_bytes: dict[Pull, int] = {}

    @property
    def events(self) -> Mapping[type, Check]:
        """Verdicts, and what others say that they hold."""
        return {BlockVerified: self._counted, SourceJoined: self._said, SourceGained: self._said}

    @property
    def commands(self) -> Mapping[type, Check]:
        """Whatever makes others, or a person, believe that something is here."""
        return {Share: self._shared, FinishFile: self._file, Complete: self._whole}

    def right(self, node: Node, model: str) -> int:
        """Return the blocks of a model that are at a machine, and right."""
        return self._rightness.of(node, model)

    # What truly came

    def began(self, world: World) -> None:
        """Take what is at each machine at the start as right."""
        self._rightness.began(world)
        self._nodes = {source_named(node.id): node for node in world.nodes}

    def joined(self, node: Node, now: float) -> None:
        """Look at what a machine has that comes back: its disk may be lost, never better."""
        for model, blocks in node.held.items():
            self._look(node, model, blocks, "comes back with", now)
        self._rightness.joined(node, now)

    def arrived(
        self, pull: Pull, lane: Lane, block: int, size_bytes: int, *, right: bool, now: float
    ) -> None:
        """Note a block that is right."""
        self._rightness.arrived(pull, lane, block, size_bytes, right=right, now=now)
        if right:
            self._came_bytes[pull] = self._came_bytes.get(pull, 0) + size_bytes

    # What they say

    def _counted(self, pull: Pull, account: Account, event: BlockVerified, now: float) -> None:
        node, model, core = pull.node, pull.model.name, pull.core
        self._look(node, model, 1 << event.block, "counts as verified", now)
        if core is None:
            return
        self._look(node, model, core.present, "keeps", now)
        counted = sum(core.bytes_by_lane.values())
        if counted > self._came_bytes.get(pull, 0):
            came = self._came_bytes.get(pull, 0)
            self.broken(node, now, f"counts {counted} bytes of which {came} came and were right")

    def _shared(self, pull: Pull, account: Account, command: Share, now: float) -> None:
        self._look(pull.node, pull.model.name, command.blocks, "offers", now)

    def _file(self, pull: Pull, account: Account, command: FinishFile, now: float) -> None:
        span = pull.model.layout.blocks_of_file(command.file_index)
        blocks = bitfield.span(span.start, len(span))
        self._look(pull.node, pull.model.name, blocks, "puts into its store", now)

    def _whole(self, pull: Pull, account: Account, command: Complete, now: float) -> None:
        self._look(pull.node, pull.model.name, pull.model.everything, "calls complete", now)

    def _said(
        self, pull: Pull, account: Account, event: SourceJoined | SourceGained, now: float
    ) -> None:
        far = self._nodes.get(event.source)
        if far is None or not event.blocks & ~self.right(far, pull.model.name):
            return
        # What a machine says that means harm is for the verification of those who believe it.
        if far.group.misdeed is None:
            self._look(far, pull.model.name, event.blocks, "says that it holds", now)

    def pull_ended(self, pull: Pull, now: float) -> None:
        """Look once more at a model that is said to be whole."""
        self._came_bytes.pop(pull, None)
        if pull.finished_at is not None:
            self._look(pull.node, pull.model.name, pull.model.everything, "has finished", now)
            if pull.present != pull.model.everything:
                missing = pull.model.everything & ~pull.present
                words = f"has finished {pull.model.name} without {naming(missing)}"
                self.broken(pull.node, now, words)

    def _look(self, node: Node, model: str, blocks: int, what: str, now: float) -> None:
        wrong = blocks & ~self.right(node, model)
        if wrong:
            self.broken(node, now, f"{what} {naming(wrong)} of {model}: never verified there")

    def ended(self, world: World) -> None:
        """Look at every disk."""
        for node in world.nodes:
            for model, blocks in node.held.items():
                self._look(node, model, blocks, "holds", world.clock.now)
