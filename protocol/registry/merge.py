"""One document out of two that went their own ways, where no store decides what came first.

Every record is signed by itself and about one thing: a model, a tag of it, one move of an alias. Of
two records about the same thing the one of the later change counts; of two of the same change, made
by members who did not know of each other, the one that every node picks. So nodes that tell one
another everything end with the same, in whatever order they hear of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.limits import ALIAS_HISTORY_MAX, REGISTRY_MAX_CHAINS_PER_MEMBER
from dreamer.protocol.registry.document import AnyRecord, Chain, Document, Published
from dreamer.protocol.registry.records import Record
from dreamer.protocol.registry.standing import VerifyMember
from dreamer.protocol.registry.statements import AliasMove, TagChange
from dreamer.protocol.registry.verify import sift


def merge(ours: Document, theirs: Document, verify_member: VerifyMember, now: float) -> Document:
    """Return ``ours`` with what ``theirs`` adds or renews; ``ours`` itself when that is nothing.

    Only what can be believed is taken over, and nothing that can be believed is given up for it.
    """
    believed, added = sift(ours, verify_member, now), sift(theirs, verify_member, now)
    merged = replace(
        ours,
        members=_members(ours.members, added.members),
        models=_models(ours.models, believed.models, added.models),
        aliases=_aliases(ours.aliases, added.aliases),
        serial=max(ours.serial, added.serial),
    )
    return ours if merged == ours else merged


def _order(record: AnyRecord) -> tuple[int, float, bytes]:
    # The signature decides only between changes that nobody can put in an order.
    return record.serial, record.at, record.signature


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
        entry = max(known.entry, published.entry, key=_order)
        tags = _tags(ours[manifest_id].tags, known.tags, published.tags)
        models[manifest_id] = replace(ours[manifest_id], entry=entry, tags=tags)
    return models


def _tags(
    ours: Mapping[str, Record[TagChange]],
    believed: Mapping[str, Record[TagChange]],
    added: Mapping[str, Record[TagChange]],
) -> dict[str, Record[TagChange]]:
    tags = dict(ours)
    for tag, record in added.items():
        tags[tag] = max(believed.get(tag, record), record, key=_order)
    return tags


def _aliases(
    ours: Mapping[str, tuple[Record[AliasMove], ...]],
    added: Mapping[str, tuple[Record[AliasMove], ...]],
) -> dict[str, tuple[Record[AliasMove], ...]]:
    aliases = dict(ours)
    for alias, moves in added.items():
        every = {move.signature: move for move in (*aliases.get(alias, ()), *moves)}
        aliases[alias] = tuple(sorted(every.values(), key=_order))[-ALIAS_HISTORY_MAX:]
    return aliases
