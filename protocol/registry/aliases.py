"""What an alias means, and who made it mean what before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.registry.policy import AliasProtection
from dreamer.protocol.registry.records import Record
from dreamer.protocol.registry.statements import AliasMove


@dataclass(frozen=True)
class AliasStep:
    """One move of an alias: from what to what (None: nothing), by whom, when in epoch seconds.

    ``before`` is None, too, for the oldest moves kept, if nobody wrote down what was before.
    """

    alias: str
    before: ManifestId | None
    after: ManifestId | None
    by: NodeId
    at: float
    serial: int


def steps(moves: Sequence[Record[AliasMove]]) -> tuple[AliasStep, ...]:
    """Return the history of an alias, oldest first, as ``Registry.history`` holds its moves."""
    found: list[AliasStep] = []
    before: ManifestId | None = None
    for move in moves:
        said = move.said
        # What its author saw comes first: members who were apart did not see each other's moves.
        seen = said.before or before
        found.append(AliasStep(said.alias, seen, said.manifest_id, move.by, move.at, move.serial))
        before = said.manifest_id
    return tuple(found)


def meaning(
    moves: Sequence[Record[AliasMove]], protections: Sequence[Record[AliasProtection]]
) -> ManifestId | None:
    """Return what an alias means by the moves and protections that count, both oldest first."""
    if protections and (not moves or moves[-1].serial < protections[-1].serial):
        # Not by the moves before it: somebody could add one that is dated back.
        return protections[-1].said.manifest_id
    return moves[-1].said.manifest_id if moves else None
