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

from dreamer.protocol.errors import DreamerError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.registry.document import Chain, Document, Published
from dreamer.protocol.registry.fitting import fit
from dreamer.protocol.registry.judge import Judge
from dreamer.protocol.registry.records import Record, S
from dreamer.protocol.registry.sift import sift, without_withdrawn
from dreamer.protocol.registry.standing import VerifyMember
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
        members=_members(ours, believed, added, verify_member, now),
        models=_models(ours.models, believed.models, added.models),
        aliases=_united(ours.aliases, added.aliases),
        protections=_united(ours.protections, added.protections),
        withdrawn=_newest(ours.withdrawn, believed.withdrawn, added.withdrawn),
        reports=_newest(ours.reports, believed.reports, added.reports),
        policy=_newer(ours.policy, believed.policy, added.policy),
        serial=max(ours.serial, added.serial),
    )
    merged = fit(_settled(merged, Judge(merged, verify_member, now)))
    return ours if merged == ours else merged


def _members(
    ours: Document, believed: Document, added: Document, verify_member: VerifyMember, now: float
) -> dict[NodeId, tuple[Chain, ...]]:
    members = dict(ours.members)
    for node, chains in added.members.items():
        known = members.get(node, ())
        new = tuple(chain for chain in chains if chain not in known)
        if len(known) + len(new) > REGISTRY_MAX_CHAINS_PER_MEMBER:
            # Chains that prove nothing may have been put there to leave no room for one that does.
            relied = believed.members.get(node, ())
            proving = tuple(
                chain
                for chain in known
                if chain in relied or _proves(chain, ours.room, node, verify_member, now)
            )
            known, new = proving, (*new, *(chain for chain in known if chain not in proving))
        # What we rely on is never pushed out, or two nodes could push back and forth for ever.
        members[node] = (*known, *new)[:REGISTRY_MAX_CHAINS_PER_MEMBER]
    return members


def _proves(
    chain: Chain, room: RoomId, node: NodeId, verify_member: VerifyMember, now: float
) -> bool:
    try:
        return verify_member(room, chain, now).node_id == node
    except DreamerError:
        return False


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
    ours: Mapping[str, tuple[Record[S], ...]], added: Mapping[str, tuple[Record[S], ...]]
) -> dict[str, tuple[Record[S], ...]]:
    """Return the histories that both know, each in order."""
    table = dict(ours)
    for key, records in added.items():
        every = {record.signature: record for record in (*table.get(key, ()), *records)}
        table[key] = tuple(sorted(every.values(), key=lambda record: record.order))
    return table


def _settled(document: Document, judge: Judge) -> Document:
    """Return the document without what was withdrawn, its histories no longer than they may be.

    What does not count gives way to what does: moves of a protected alias by who did not know of
    the protection, or did not care, and forged ones, whatever number they claim.
    """
    moves, protections = judge.aliases()
    withdrawn = judge.withdrawn(moves, protections)
    return replace(
        document,
        aliases={
            alias: _bounded(every, moves.get(alias, ()), ALIAS_HISTORY_MAX)
            for alias, every in document.aliases.items()
        },
        protections={
            alias: _bounded(every, protections.get(alias, ()), PROTECTIONS_MAX_PER_ALIAS)
            for alias, every in document.protections.items()
        },
        models=without_withdrawn(document.models, withdrawn),
    )


def _bounded(
    every: tuple[Record[S], ...], counting: tuple[Record[S], ...], count: int
) -> tuple[Record[S], ...]:
    if len(every) <= count:
        return every
    counts = {record.signature for record in counting}
    # Sorting keeps their order but for this: those that count come last.
    ranked = sorted(every, key=lambda record: record.signature in counts)
    kept = {record.signature for record in ranked[-count:]}
    return tuple(record for record in every if record.signature in kept)
