"""Judges the records of one document one by one: which count, and what is wrong with the others.

A record counts when it stands where it belongs, its author signed it, one of the author's chains
made the author a member at the record's time, and the role allows it. Membership is judged at the
time of the record, so that models outlive the certificates of those who published them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.limits import CLOCK_SKEW_S
from dreamer.protocol.registry.aliases import meaning
from dreamer.protocol.registry.availability import NodeReport, Stored
from dreamer.protocol.registry.document import Chain, Document, Moves, Protections, Published
from dreamer.protocol.registry.policy import AliasProtection, RoomPolicy
from dreamer.protocol.registry.records import AnyRecord, Record
from dreamer.protocol.registry.reports import Fault, Report
from dreamer.protocol.registry.standing import RIGHTS, Standings, VerifyMember, guardians
from dreamer.protocol.registry.statements import AliasMove, TagChange, Withdrawal
from dreamer.protocol.registry_limits import REGISTRY_MAX_SERIAL_GAP


class Judge:
    """Judges the records of one document, and notes the highest serial it believed.

    Not ``guarded``, it takes no notice of protections: what one forbids is allowed again where
    another document has the end of that protection.
    """

    def __init__(
        self, document: Document, verify_member: VerifyMember, now: float, guarded: bool = True
    ) -> None:
        self._document = document
        self._now = now
        self._guarded = guarded
        self._standings = Standings(document, verify_member)
        self.last_serial = last_plausible(document)
        self.serial = 0
        self.believed: dict[bytes, AnyRecord] = {}
        """The records that count, by their signatures."""
        self.reports: list[Report] = []

    def models(self) -> dict[ManifestId, Published]:
        """Return the models that count, with what counts of what was said of them."""
        return {
            manifest_id: replace(
                published,
                tags=self._tags(manifest_id, published),
                stored=self._stored(manifest_id, published),
            )
            for manifest_id, published in self._document.models.items()
            if self._holds(published.entry, published.entry.said.manifest_id == manifest_id)
        }

    def withdrawn(
        self, moves: Moves, protections: Protections
    ) -> dict[ManifestId, Record[Withdrawal]]:
        """Return the withdrawals that count; ``moves`` and ``protections`` are those that do."""
        return {
            manifest_id: record
            for manifest_id, record in self._document.withdrawn.items()
            if self._holds(
                record,
                record.said.manifest_id == manifest_id,
                *_roles_for_withdrawal(record, moves, protections),
            )
        }

    def aliases(self) -> tuple[Moves, Protections]:
        """Return the moves of each alias that count, and its protections, oldest first."""
        moves: dict[str, tuple[Record[AliasMove], ...]] = {}
        protections: dict[str, tuple[Record[AliasProtection], ...]] = {}
        for alias in sorted({**self._document.aliases, **self._document.protections}):
            guards = self.protections(alias)
            if alias in self._document.aliases:
                moves[alias] = self._moves(alias, guards)
            if guards:
                protections[alias] = guards
        return moves, protections

    def reported(self) -> dict[NodeId, Record[NodeReport]]:
        """Return the reports that count: each node speaks for itself."""
        return {
            node: record
            for node, record in self._document.reports.items()
            if self._holds(record, record.by == node)
        }

    def policy(self) -> Record[RoomPolicy] | None:
        """Return the room's policy, if it counts."""
        record = self._document.policy
        return record if record is not None and self._holds(record, True) else None

    def protections(self, alias: str) -> tuple[Record[AliasProtection], ...]:
        """Return the protections of an alias that count, oldest first."""
        every = self._document.protections.get(alias, ())
        kept = [record for record in every if self._holds(record, record.said.alias == alias)]
        return tuple(sorted(kept, key=lambda record: record.order))

    def _moves(
        self, alias: str, protections: Sequence[Record[AliasProtection]]
    ) -> tuple[Record[AliasMove], ...]:
        # Of what was in force when, the signed serials tell: who stores them could reorder them.
        every = self._document.aliases.get(alias, ())
        kept = [
            move
            for move in every
            if self._holds(move, move.said.alias == alias, *_roles_for(move, protections))
        ]
        return tuple(sorted(kept, key=lambda move: move.order))

    def chains_relied_on(self) -> dict[NodeId, tuple[Chain, ...]]:
        """Return the chains that gave somebody a right so far, by their authors."""
        return self._standings.chains_relied_on()

    def _tags(self, manifest_id: ManifestId, published: Published) -> dict[str, Record[TagChange]]:
        return {
            tag: record
            for tag, record in sorted(published.tags.items())
            if self._holds(record, (record.said.manifest_id, record.said.tag) == (manifest_id, tag))
        }

    def _stored(self, manifest_id: ManifestId, published: Published) -> Record[Stored] | None:
        record = published.stored
        if record is None or not self._holds(record, record.said.manifest_id == manifest_id):
            return None
        return record

    def _holds(self, record: AnyRecord, in_place: bool, *needed: tuple[str, ...]) -> bool:
        """Return whether a record counts: its author had a role out of each of ``needed``, too."""
        fault, detail = self._fault(record, in_place)
        if fault is None:
            # A change that only a protection forbids was made all the same, perhaps by who had not
            # heard of it yet: a document with both is not older than its own copy without.
            self.serial = max(self.serial, record.serial)
            if self._guarded:
                fault, detail = self._guard_fault(record, needed)
        if fault is not None:
            where = f"{record.said.subject} by {record.by.hex()[:8]}"
            self.reports.append(Report(where, fault, detail))
            return False
        self.believed[record.signature] = record
        return True

    def _guard_fault(
        self, record: AnyRecord, needed: Sequence[tuple[str, ...]]
    ) -> tuple[Fault | None, str]:
        for roles in needed:
            fault, detail = self._standings.fault(record.by, record.at, roles)
            if fault is not None:
                return Fault.PROTECTED, f"only for {' or '.join(roles)}, not {detail}"
        return None, ""

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
        return self._standings.fault(record.by, record.at, RIGHTS[type(record.said)])


def last_plausible(document: Document) -> int:
    """Return the last serial that is no leap from the one before it.

    A single member could otherwise sign the largest number there is, and no change could follow.
    """
    last = 0
    for serial in sorted(record.serial for record in document.records()):
        if serial - last > REGISTRY_MAX_SERIAL_GAP:
            break
        last = serial
    return last


def _roles_for(
    change: AnyRecord, protections: Sequence[Record[AliasProtection]]
) -> list[tuple[str, ...]]:
    """Return the roles that a change of an alias needed beyond the usual, when it was made."""
    # One of the same change counts too: where two members made it apart, the protection wins.
    in_force = [guard for guard in protections if guard.serial <= change.serial][-1:]
    return [guardians(guard.said.roles) for guard in in_force if guard.said.roles]


def _roles_for_withdrawal(
    end: Record[Withdrawal], moves: Moves, protections: Protections
) -> list[tuple[str, ...]]:
    """Return the roles that a withdrawal needed beyond the usual.

    What a protected alias means goes only by those who may move the alias.
    """
    needed: list[tuple[str, ...]] = []
    for alias, guards in protections.items():
        before = [move for move in moves.get(alias, ()) if move.serial < end.serial]
        earlier = [guard for guard in guards if guard.serial <= end.serial]
        if meaning(before, earlier) == end.said.manifest_id:
            needed += _roles_for(end, guards)
    return needed
