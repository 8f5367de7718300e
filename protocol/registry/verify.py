"""Checks every record of a document; what fails is left out of the view and reported.

A record counts when it stands where it belongs, its author signed it, one of the author's chains
made the author a member at the record's time, and the role allows it. Membership is judged at the
time of the record, so that models outlive the certificates of those who published them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.limits import CLOCK_SKEW_S, REGISTRY_MAX_SERIAL_GAP
from dreamer.protocol.registry.document import AnyRecord, Document, Published
from dreamer.protocol.registry.records import Record
from dreamer.protocol.registry.reports import Fault, Report
from dreamer.protocol.registry.standing import Standings, VerifyMember
from dreamer.protocol.registry.statements import AliasMove, TagChange
from dreamer.protocol.registry.view import Model, Registry, Verified


def verify(document: Document, verify_member: VerifyMember, now: float) -> Verified:
    """Return what can be believed of a document, and a report of each thing that can't."""
    judge = _Judge(document, verify_member, now)
    models = {
        manifest_id: judge.model(manifest_id, published)
        for manifest_id, published in document.models.items()
    }
    believed = {key: model for key, model in models.items() if model is not None}
    history = {alias: judge.alias(alias, moves) for alias, moves in document.aliases.items()}
    aliases = _targets(history, believed, judge.reports)
    if document.serial != judge.serial:
        judge.reports.append(Report("room document", Fault.SERIAL))
    registry = Registry(_with_aliases(believed, aliases), aliases, history)
    reports = (*document.malformed, *judge.reports)
    return Verified(document, registry, judge.serial, judge.last_serial, reports)


def sift(document: Document, verify_member: VerifyMember, now: float) -> Document:
    """Return the document with nothing in it but what can be believed.

    All of it holds without the rest, too: a record that only forged ones joined to the others would
    be a leap where they are left out (``Fault.SERIAL_JUMP``).
    """
    sifted = _Judge(document, verify_member, now).sifted()
    if _last_plausible(sifted) == sifted.serial:
        return sifted
    return _Judge(sifted, verify_member, now).sifted()


def accept_newer(old: Verified | None, new: Verified) -> Verified:
    """Return ``new`` unless it is older than what this node has already seen.

    Raises:
        ForbiddenError: an old document is passed off as the present one.
    """
    if old is not None and new.serial < old.serial:
        raise ForbiddenError(
            f"the room's store returned an old registry (change {new.serial}, but change "
            f"{old.serial} was seen before): nothing was changed; ask whoever keeps the room's "
            "tracker or bucket to restore the newest copy"
        )
    return new


class _Judge:
    """Judges the records of one document, and notes the highest serial it believed."""

    def __init__(self, document: Document, verify_member: VerifyMember, now: float) -> None:
        self._document = document
        self._now = now
        self._standings = Standings(document, verify_member)
        self.last_serial = _last_plausible(document)
        self.serial = 0
        self.reports: list[Report] = []

    def model(self, manifest_id: ManifestId, published: Published) -> Model | None:
        entry = published.entry
        if not self._holds(entry, entry.said.manifest_id == manifest_id):
            return None
        tags = [
            tag
            for tag, record in sorted(published.tags.items())
            if self._holds(record, (record.said.manifest_id, record.said.tag) == (manifest_id, tag))
            and record.said.on
        ]
        said = entry.said
        # The name and sizes are the publisher's word; a pull trusts the manifest's instead.
        return Model(
            manifest_id,
            said.name,
            said.size_bytes,
            said.files,
            said.model_type,
            published_by=entry.by,
            at=entry.at,
            tags=tuple(tags),
            torrent=said.torrent,
        )

    def alias(
        self, alias: str, moves: Sequence[Record[AliasMove]]
    ) -> tuple[Record[AliasMove], ...]:
        kept = [move for move in moves if self._holds(move, move.said.alias == alias)]
        # By their signed serials, since whoever stores the list could reorder it.
        return tuple(sorted(kept, key=lambda move: move.serial))

    def sifted(self) -> Document:
        models = {
            manifest_id: replace(published, tags=self._sifted_tags(manifest_id, published))
            for manifest_id, published in self._document.models.items()
            if self._holds(published.entry, published.entry.said.manifest_id == manifest_id)
        }
        aliases = {alias: self.alias(alias, m) for alias, m in self._document.aliases.items()}
        return replace(
            self._document,
            serial=self.serial,
            members=self._standings.chains_relied_on(),
            models=models,
            aliases={alias: moves for alias, moves in aliases.items() if moves},
            malformed=(),
        )

    def _sifted_tags(
        self, manifest_id: ManifestId, published: Published
    ) -> dict[str, Record[TagChange]]:
        return {
            tag: record
            for tag, record in published.tags.items()
            if self._holds(record, (record.said.manifest_id, record.said.tag) == (manifest_id, tag))
        }

    def _holds(self, record: AnyRecord, in_place: bool) -> bool:
        fault, detail = self._fault(record, in_place)
        if fault is not None:
            where = f"{record.said.subject} by {record.by.hex()[:8]}"
            self.reports.append(Report(where, fault, detail))
            return False
        self.serial = max(self.serial, record.serial)
        return True

    def _fault(self, record: AnyRecord, in_place: bool) -> tuple[Fault | None, str]:
        if not in_place or record.room != self._document.room:
            return Fault.MISPLACED, ""
        try:
            record.check_signature()
        except ForbiddenError:
            return Fault.WRONG_SIGNATURE, ""
        if record.serial > self.last_serial:
            return Fault.SERIAL_JUMP, ""
        if record.at > self._now + CLOCK_SKEW_S:
            return Fault.FROM_THE_FUTURE, ""
        return self._standings.fault(record.by, record.at)


def _last_plausible(document: Document) -> int:
    """Return the last serial that is no leap from the one before it.

    A single member could otherwise sign the largest number there is, and no change could follow.
    """
    last = 0
    for serial in sorted(record.serial for record in document.records()):
        if serial - last > REGISTRY_MAX_SERIAL_GAP:
            break
        last = serial
    return last


def _targets(
    history: dict[str, tuple[Record[AliasMove], ...]],
    models: dict[ManifestId, Model],
    reports: list[Report],
) -> dict[str, ManifestId]:
    targets: dict[str, ManifestId] = {}
    for alias, moves in sorted(history.items()):
        target = moves[-1].said.manifest_id if moves else None
        if target in models:
            targets[alias] = target
        elif target is not None:
            reports.append(Report(f"alias {alias}", Fault.DANGLING))
    return targets


def _with_aliases(
    models: dict[ManifestId, Model], aliases: dict[str, ManifestId]
) -> dict[ManifestId, Model]:
    named: dict[ManifestId, list[str]] = {}
    for alias, target in aliases.items():
        named.setdefault(target, []).append(alias)
    return {key: replace(model, aliases=tuple(named.get(key, ()))) for key, model in models.items()}
