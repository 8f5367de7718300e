"""Machines that mean harm, or are broken: what they do instead of what the core would do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from dreamer.protocol.limits import REQUESTS_QUEUED_PER_PEER
from dreamer.protocol.link.messages import Follow, Want
from dreamer.protocol.swarm.giving_vocabulary import Failure
from dreamer.protocol.swarm.vocabulary import Lane

if TYPE_CHECKING:
    from dreamer.simulations.engine.catalogue import Model
    from dreamer.simulations.engine.links import End
    from dreamer.simulations.scenario.model import Misdeed

FLOOD_S = 1.0


class Honest:
    """Sends what it has been asked for, as far as a relay's budget lets it."""

    right = True
    """Whether its blocks have the right hash."""

    def send(self, end: End, request: int, model: Model, blocks: Sequence[int]) -> None:
        """Put blocks on the line."""
        size = sum(model.layout.block_size(block) for block in blocks)
        if end.lane is not Lane.RELAY or end.node.relaying.lets_pass(end, size):
            end.send(model, request, blocks)
        else:
            end.node.slice_sent(end, request, Failure.MOVED)

    def linked(self, end: End) -> None:
        """Do nothing unasked."""


class BadBlocks(Honest):
    """Sends other bytes than it was asked for."""

    right = False


class ClaimsAll(Honest):
    """Says that it holds everything, and refuses whatever it is asked for."""

    def send(self, end: End, request: int, model: Model, blocks: Sequence[int]) -> None:
        """Refuse after all."""
        end.node.slice_sent(end, request, Failure.DAMAGED)


class Silent(Honest):
    """Takes every request and sends nothing."""

    def send(self, end: End, request: int, model: Model, blocks: Sequence[int]) -> None:
        """Send nothing."""


class Floods(Honest):
    """Asks every peer for more than it may, again and again."""

    def linked(self, end: End) -> None:
        """Begin to ask."""
        for model in end.node.world.models.values():
            end.say(Follow(model.id))
        self._flood(end, 1 << 31)

    def _flood(self, end: End, first_request: int) -> None:
        if not end.up:
            return
        world, count = end.node.world, 2 * REQUESTS_QUEUED_PER_PEER
        for request in range(first_request, first_request + count):
            model = end.node.rng.choice(list(world.models.values()))
            block = end.node.rng.randrange(model.layout.block_count)
            end.say(Want(request, model.id, block, 1, end.direct_up))
        world.clock.after(FLOOD_S, partial(self._flood, end, first_request + count))


_CONDUCTS = {
    None: Honest,
    "bad_blocks": BadBlocks,
    "claims_all": ClaimsAll,
    "silent": Silent,
    "floods": Floods,
}


def conduct_of(misdeed: Misdeed | None) -> Honest:
    """Return how a machine behaves."""
    return _CONDUCTS[misdeed]()
