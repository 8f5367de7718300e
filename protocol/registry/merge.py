"""One document out of two that went their own ways, where no store decides what came first.

Every record is signed by itself and about one thing: a model, a tag of it, one move of an alias. Of
two records about the same thing the one of the later change counts; of two of the same change, made
by members who did not know of each other, the one that every node picks. So nodes that tell one
another everything end with the same, in whatever order they hear of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.registry.document import Chain, Document, Published
from dreamer.protocol.registry.fitting import fit
from dreamer.protocol.registry.judge import Judge
from dreamer.protocol.registry.policy import AliasProtection
from dreamer.protocol.registry.records import Record, S
from dreamer.protocol.registry.sift import sift, without_withdrawn
from dreamer.protocol.registry.standing import VerifyMember
from dreamer.protocol.registry.statements import AliasMove
from dreamer.protocol.registry_limits import (
    ALIAS_HISTORY_MAX,
    PROTECTIONS_MAX_PER_ALIAS,
    REGISTRY_MAX_CHAINS_PER_MEMBER,
)

K = TypeVar("K")


def merge(ours: Document, theirs: Document, verify_member: VerifyMember, now: float) -> Document:
    """Return ``ours`` with what ``theirs`` adds or renews; ``ours`` itself when that is nothing.

    Only what can be believed is taken over, and nothing that can be believed is given up for it,
    but reports of nodes where there is no more room.
    """
    believed = sift(ours, verify_member, now)
    added = sift(theirs, verify_member, now)
    merged = replace(
        ours,
        members=_members(ours.members, added.members),
        models=_models(ours.models, believed.models, added.models),
        aliases=_united(ours.aliases, added.aliases),
        protections=_united(ours.protections, added.protections, PROTECTIONS_MAX_PER_ALIAS),
        withdrawn=_newest(ours.withdrawn, believed.withdrawn, added.withdrawn),
        reports=_newest(ours.reports, believed.reports, added.reports),
        policy=_newer(ours.policy, believed.policy, added.policy),
        serial=max(ours.serial, added.serial),
    )
    merged = fit(_settled(merged, Judge(merged, verify_member, now)))
    return ours if merged == ours else merged


def _members(
    ours: Mapping[NodeId, tuple[Chain, ...]], added: Mapping[NodeId, tuple[Chain, ...]]
) -> dict[NodeId, tuple[Chain, ...]]:
    members = dict(ours)
    for node, chains in added.items():
        known = members.get(node, ())
        new = tuple(chain for chain in chains if chain not in known)
        # What we rely on is never pushed out, or two nodes could push back and forth for ever.
        members[node] = (*known, *new)[:REGISTRY_MAX_CHAINS_PER_MEMBER]
    return members


def _models(
    ours: Mapping[ManifestId, Published],
    believed: Mapping[ManifestId, Published],
    added: Mapping[ManifestId, Published],
) -> dict[ManifestId, Published]:
    models = dict(ours)
    for manifest_id, published in added.items():
        known = believed.get(manifest_id)
        if known is None:
            models[manifest_id] = published
            continue
        mine = ours[manifest_id]
        models[manifest_id] = replace(
            mine,
            entry=max(known.entry, published.entry, key=lambda record: record.order),
            tags=_newest(mine.tags, known.tags, published.tags),
            stored=_newer(mine.stored, known.stored, published.stored),
        )
    return models


def _newest(
    ours: Mapping[K, Record[S]], believed: Mapping[K, Record[S]], added: Mapping[K, Record[S]]
) -> dict[K, Record[S]]:
    """Return one record about each thing; what of ours can't be believed stays if nothing else is.

    ``believed`` is what of ``ours`` can be.
    """
    table = dict(ours)
    for key, record in added.items():
        table[key] = max(believed.get(key, record), record, key=lambda one: one.order)
    return table


def _newer(
    ours: Record[S] | None, believed: Record[S] | None, added: Record[S] | None
) -> Record[S] | None:
    if added is None:
        return ours
    return max(believed or added, added, key=lambda record: record.order)


def _united(
    ours: Mapping[str, tuple[Record[S], ...]],
    added: Mapping[str, tuple[Record[S], ...]],
    count: int | None = None,
) -> dict[str, tuple[Record[S], ...]]:
    """Return the histories that both know, each in order; only the last ``count`` if it is one."""
    table = dict(ours)
    for key, records in added.items():
        every = {record.signature: record for record in (*table.get(key, ()), *records)}
        ordered = sorted(every.values(), key=lambda record: record.order)
        table[key] = tuple(ordered if count is None else ordered[-count:])
    return table


def _settled(document: Document, judge: Judge) -> Document:
    """Return the document without what was withdrawn, its histories no longer than they may be.

    Who moved a protected alias did not know of the protection, or did not care; in either case such
    a move gives way to those that count.
    """
    aliases = {
        alias: _bounded(moves, judge.protections(alias), judge)
        for alias, moves in document.aliases.items()
    }
    withdrawn = judge.withdrawn(*judge.aliases())
    models = without_withdrawn(document.models, withdrawn)
    return replace(document, aliases=aliases, models=models)


def _bounded(
    moves: tuple[Record[AliasMove], ...],
    protections: tuple[Record[AliasProtection], ...],
    judge: Judge,
) -> tuple[Record[AliasMove], ...]:
    if len(moves) <= ALIAS_HISTORY_MAX:
        return moves
    # Sorting keeps their order but for this: those that count come last.
    ranked = sorted(moves, key=lambda move: judge.allows(move, protections))
    kept = {move.signature for move in ranked[-ALIAS_HISTORY_MAX:]}
    return tuple(move for move in moves if move.signature in kept)
