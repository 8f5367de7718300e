"""What a document no longer has, though nobody signed its end: found, and kept.

Whoever may write the document may write it without somebody else's records: no signature is over
the whole of it. A model would be gone without a withdrawal, an alias back at what it meant before,
a withdrawn model there again. Who has seen a record that counted, and finds neither it nor a later
one about the same thing that counts, keeps it, and says so.

A record that is still in the document but counts no more is looked at alike: whoever drops its
author's chain, or changes a word of it, has as good as dropped it. Put back with all that it
belongs to, it is judged anew; if it was rightly judged then, that changes nothing.

Some records go by themselves: reports of nodes, the oldest withdrawals and the oldest removals of
tags where there is no more room for them (``fitting``, ``Pen``), uploads whose time is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace

from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.availability import NodeReport, Stored
from dreamer.protocol.registry.document import Document, Published
from dreamer.protocol.registry.merge import merge
from dreamer.protocol.registry.policy import AliasProtection, RoomPolicy
from dreamer.protocol.registry.records import AnyRecord
from dreamer.protocol.registry.reports import Fault, Report
from dreamer.protocol.registry.standing import VerifyMember
from dreamer.protocol.registry.statements import AliasMove, ModelEntry, TagChange, Withdrawal
from dreamer.protocol.registry.verify import verify
from dreamer.protocol.registry.view import Verified
from dreamer.protocol.registry_limits import TAGS_MAX_PER_MODEL, WITHDRAWN_MAX_MODELS

Order = tuple[int, float, bytes]


def keep_vanished(
    before: Verified, after: Verified, verify_member: VerifyMember, now: float
) -> Verified:
    """Return ``after`` with what of ``before`` has vanished, itself if that is nothing.

    ``before`` is what this node has seen, ``after`` what the store has now.
    """
    lost = vanished(before, after, now)
    if not lost:
        return after
    part = _part(before.document, lost)
    merged = merge(after.document, part, verify_member, now)
    if merged is after.document:
        return after
    kept = verify(merged, verify_member, now)
    reports = tuple(
        Report(record.said.subject, Fault.VANISHED, f"said by {record.by.hex()[:8]}")
        for record in lost
        if record.signature in kept.believed
    )
    return replace(kept, reports=(*kept.reports, *reports))


def vanished(before: Verified, after: Verified, now: float) -> list[AnyRecord]:
    """Return the records that counted before, and that nothing after takes the place of."""
    missing = [
        record for signature, record in before.believed.items() if signature not in after.believed
    ]
    if not missing:
        return []
    newest = _newest(after)
    oldest_end = _oldest_end(after)
    crowded = _crowded(newest)
    return [
        record
        for record in missing
        if not _may_go(record, newest, oldest_end, crowded, now)
        and not any(newest.get(about, _NEVER) > record.order for about in _subjects(record))
    ]


_NEVER: Order = (-1, 0.0, b"")


def _subjects(record: AnyRecord) -> Iterator[Hashable]:
    """Yield what a record is about; a later one about any of these takes its place."""
    match record.said:
        case ModelEntry(manifest_id=model) | Withdrawal(manifest_id=model):
            yield "model", model
        case TagChange(manifest_id=model, tag=tag):
            yield "tag", model, tag
            yield "end", model
        case Stored(manifest_id=model):
            yield "stored", model
            yield "end", model
        case AliasMove(alias=alias):
            yield "alias", alias
        case AliasProtection(alias=alias):
            yield "protection", alias
        case NodeReport():
            yield "report", record.by
        case RoomPolicy():
            yield "policy", ""


def _newest(verified: Verified) -> dict[Hashable, Order]:
    """Return the order of the latest record that counts, by what it is about."""
    newest: dict[Hashable, Order] = {}
    for record in verified.believed.values():
        about = [next(_subjects(record))]
        if isinstance(record.said, Withdrawal):
            about.append(("end", record.said.manifest_id))
        for one in about:
            newest[one] = max(newest.get(one, _NEVER), record.order)
    return newest


def _may_go(
    record: AnyRecord,
    newest: Mapping[Hashable, Order],
    oldest_end: Order,
    crowded: Collection[ManifestId],
    now: float,
) -> bool:
    """Return whether a record may be missing without any other in its place."""
    match record.said:
        case NodeReport():
            # Forgotten, it says nothing; but what is older must not stand in its place.
            return ("report", record.by) not in newest
        case TagChange(manifest_id=model, tag=tag, on=False):
            # Only where there was no room: the tag could be put back once all have forgotten it.
            gone = ("model", model) not in newest
            return ("tag", model, tag) not in newest and (gone or model in crowded)
        case ModelEntry(expires_at=ends) if ends is not None:
            return ends <= now or record.order < oldest_end
        case ModelEntry() | TagChange() | Stored() | Withdrawal():
            return record.order < oldest_end
    return False


def _oldest_end(verified: Verified) -> Order:
    """Return the order of the oldest withdrawal, if there may have been older ones.

    Of those that count: forged ones would make room for dropping what they seem to be newer than.
    """
    ends = [one.order for one in verified.believed.values() if isinstance(one.said, Withdrawal)]
    return min(ends) if len(ends) >= WITHDRAWN_MAX_MODELS else _NEVER


def _crowded(newest: Iterable[Hashable]) -> set[ManifestId]:
    """Return the models that have as many tags and removals of tags as there is room for."""
    counted = Counter(
        about[1] for about in newest if isinstance(about, tuple) and about[0] == "tag"
    )
    return {model for model, count in counted.items() if count >= TAGS_MAX_PER_MODEL}


def _part(document: Document, lost: list[AnyRecord]) -> Document:
    """Return the document with nothing in it but what was lost, and what that belongs to."""
    models: dict[ManifestId, Published] = {}
    aliases: dict[str, None] = {}
    withdrawn = {}
    reports = {}
    for record in lost:
        match record.said:
            case ModelEntry(manifest_id=model) | TagChange(manifest_id=model):
                models[model] = document.models[model]
            case Stored(manifest_id=model):
                models[model] = document.models[model]
            case AliasMove(alias=alias) | AliasProtection(alias=alias):
                aliases[alias] = None
            case Withdrawal(manifest_id=model):
                withdrawn[model] = document.withdrawn[model]
            case NodeReport():
                reports[record.by] = document.reports[record.by]
    return Document(
        document.room,
        serial=max(record.serial for record in lost),
        members=document.members,
        models=models,
        aliases={key: document.aliases[key] for key in aliases if key in document.aliases},
        protections={
            key: document.protections[key] for key in aliases if key in document.protections
        },
        withdrawn=withdrawn,
        reports=reports,
        policy=document.policy if any(isinstance(r.said, RoomPolicy) for r in lost) else None,
    )
