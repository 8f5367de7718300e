"""Which run of blocks to ask for next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dreamer.protocol.limits import PICK_ALIGN_BLOCKS
from dreamer.protocol.swarm import bitfield

if TYPE_CHECKING:
    from random import Random


def pick_run(
    fresh: int, rarest: int, limit: int, rng: Random, align: int = PICK_ALIGN_BLOCKS
) -> tuple[int, int]:
    """Return (first, count) of a run inside ``fresh`` that starts in ``rarest``.

    Nodes that begin at the same time must not all ask for the same blocks, so the start is
    random; it is aligned, so that what is left over stays in long runs.

    Args:
        fresh: blocks the source holds and nobody was asked for; not empty.
        rarest: the subset of ``fresh`` that the fewest peers hold; not empty.
        limit: the most blocks to ask for at once.
        rng: the node's seeded random source.
        align: starts are multiples of so many blocks.
    """
    position = rng.randrange(rarest.bit_length())
    position -= position % align
    first = bitfield.first_at_or_after(rarest, position)
    return first, bitfield.run_length(fresh, first, limit)
