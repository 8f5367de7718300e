"""A node's own report, handed in by a member that may not write the document.

Whoever keeps the document, a tracker, enters it there for that member. The member can say nothing
but what its node has and has moved: its key signed that for this room, with a number that goes one
beyond the document's last at most, so that nobody can use the numbers up; and a report that is
older than the one in the document replaces none. Readers judge it as all others. ::

    {"chain": chain, "kept": "tracker" or "origin", "report": record}

``kept`` says where the room keeps its document, which trackers are not told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dreamer.protocol.canonical import Json, loads_lenient
from dreamer.protocol.errors import ConflictError, DreamerError, ForbiddenError, InputError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.limits import CLOCK_SKEW_S
from dreamer.protocol.registry.availability import NodeReport, read_report
from dreamer.protocol.registry.document import Chain, Document
from dreamer.protocol.registry.fitting import fit
from dreamer.protocol.registry.judge import last_plausible
from dreamer.protocol.registry.reading import Reader
from dreamer.protocol.registry.records import Record, read_record
from dreamer.protocol.registry.standing import RIGHTS, VerifyMember
from dreamer.protocol.registry_limits import HANDED_IN_MAX_BYTES, REGISTRY_MAX_CHAINS_PER_MEMBER
from dreamer.protocol.rooms.card import RegistryPlace, parse_registry_place


@dataclass(frozen=True)
class HandedIn:
    """A report with the chain that proves its author's membership, and where it is to go."""

    report: Record[NodeReport]
    chain: Chain
    kept: RegistryPlace = RegistryPlace.TRACKER

    def to_json(self) -> Json:
        """Return the JSON object that travels."""
        return {"chain": self.chain, "kept": str(self.kept), "report": self.report.to_json()}


def parse_handed_in(data: bytes) -> HandedIn:
    """Return what a member sent; nothing of it is verified here.

    Raises:
        InputError: it is no report of a node, or longer than ``HANDED_IN_MAX_BYTES``.
    """
    if len(data) > HANDED_IN_MAX_BYTES:
        raise InputError(f"a report has {HANDED_IN_MAX_BYTES} bytes at most")
    fields = Reader(loads_lenient(data), "a report that is handed in")
    report = read_record(fields.any("report"), "a node's report", read_report)
    chain = fields.items("chain")
    kept = parse_registry_place(fields.text("kept"))
    fields.nothing_else()
    return HandedIn(report, chain, kept)


def enter(
    document: Document, handed: HandedIn, member: NodeId, verify_member: VerifyMember, now: float
) -> Document:
    """Return the document with the report of ``member``, itself if that is there already.

    ``now`` is in seconds since the epoch.

    Raises:
        ForbiddenError: the report is not that member's own, or not of this room.
        ConflictError: it is older than the one in the document, ahead of it, or of the future.
        InputError: there is no room for it.
    """
    record = handed.report
    check_author(document.room, handed, member, verify_member)
    if document.reports.get(member) == record:
        return document
    _check_order(document, record, now)
    older = [one for one in document.members.get(member, ()) if one != handed.chain]
    chains = (*older, handed.chain)[-REGISTRY_MAX_CHAINS_PER_MEMBER:]
    entered = fit(
        replace(
            document,
            serial=max(document.serial, record.serial),
            members={**document.members, member: chains},
            reports={**document.reports, member: record},
            malformed=(),  # what could not be read is not written back
        )
    )
    if member not in entered.reports:
        raise InputError("the room's registry is full: withdraw models, or start a new room")
    return entered


def check_author(
    room: RoomId, handed: HandedIn, member: NodeId, verify_member: VerifyMember
) -> None:
    """Check what can be without the document: that ``member`` may say this in the room.

    Raises:
        ForbiddenError: the report is not that member's own, or not of this room.
    """
    record = handed.report
    if record.room != room or record.by != member:
        raise ForbiddenError("a member reports on its own node alone, and for this room")
    record.check_signature()
    # At the record's time, as all who read it will.
    standing = verify_member(room, handed.chain, record.at)
    if standing.node_id != member or not any(r in RIGHTS[NodeReport] for r in standing.roles):
        raise ForbiddenError("this chain does not prove the reporting node's membership")


def _check_order(document: Document, record: Record[NodeReport], now: float) -> None:
    if record.at > now + CLOCK_SKEW_S:
        raise ConflictError("the report is dated in the future: check this machine's clock")
    last = last_plausible(document)
    if record.serial > last + 1:
        raise ConflictError("the report goes by a newer registry than there is here")
    known = document.reports.get(record.by)
    if known is not None and _sound(known, record, last) and known.order > record.order:
        raise ConflictError("a newer report of this node is there already")


def _sound(known: Record[NodeReport], record: Record[NodeReport], last: int) -> bool:
    """Return whether the record in a node's place is its own: anything may have been put there."""
    if (known.room, known.by) != (record.room, record.by) or known.serial > last:
        return False
    try:
        known.check_signature()
    except DreamerError:
        return False
    return True
