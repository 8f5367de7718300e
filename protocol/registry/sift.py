"""A document with nothing in it but what can be believed: what one node takes over from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.document import Document, Published
from dreamer.protocol.registry.judge import Judge, last_plausible
from dreamer.protocol.registry.records import Record
from dreamer.protocol.registry.standing import VerifyMember
from dreamer.protocol.registry.statements import Withdrawal


def sift(document: Document, verify_member: VerifyMember, now: float) -> Document:
    """Return the document with nothing in it but what can be believed.

    All of it holds without the rest, too: a record that only forged ones joined to the others would
    be a leap where they are left out (``Fault.SERIAL_JUMP``). What only a protection forbids stays:
    another document may have the end of that protection.
    """
    sifted = _sifted(document, Judge(document, verify_member, now, guarded=False))
    if last_plausible(sifted) == sifted.serial:
        return sifted
    return _sifted(sifted, Judge(sifted, verify_member, now, guarded=False))


def without_withdrawn(
    models: Mapping[ManifestId, Published], withdrawn: Mapping[ManifestId, Record[Withdrawal]]
) -> dict[ManifestId, Published]:
    """Return the models without what was said of them before they were withdrawn.

    A model that was published again since has neither its old tags nor its old place in the bucket.
    One of which only its tags were changed since stays with its old entry, which does not count:
    without that change the document would seem to be older than it is.
    """
    found: dict[ManifestId, Published] = {}
    for manifest_id, published in models.items():
        end = withdrawn.get(manifest_id)
        since = published if end is None else _since(published, end)
        if end is None or since.tags or since.stored or counts(published, end):
            found[manifest_id] = since
    return found


def counts(published: Published, end: Record[Withdrawal] | None) -> bool:
    """Return whether a model is in the room, that was withdrawn at its ``end`` if there is one."""
    # Of one change, too, the entry counts: rather a model too many than one lost.
    return end is None or published.entry.serial >= end.serial


def _since(published: Published, end: Record[Withdrawal]) -> Published:
    tags = {tag: record for tag, record in published.tags.items() if record.serial >= end.serial}
    stored = published.stored
    if stored is not None and stored.serial < end.serial:
        stored = None
    return replace(published, tags=tags, stored=stored)


def _sifted(document: Document, judge: Judge) -> Document:
    moves, protections = judge.aliases()
    withdrawn = judge.withdrawn(moves, protections)
    models = without_withdrawn(judge.models(), withdrawn)
    reports, policy = judge.reported(), judge.policy()
    return replace(
        document,
        members=judge.chains_relied_on(),
        models=models,
        aliases={alias: kept for alias, kept in moves.items() if kept},
        protections=protections,
        withdrawn=withdrawn,
        reports=reports,
        policy=policy,
        serial=judge.serial,
        malformed=(),
    )
