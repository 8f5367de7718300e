"""Judges the authors of records by the rooms' own certificates and revocations."""

from __future__ import annotations

from dreamer.protocol.ids import RoomId
from dreamer.protocol.registry.document import Chain
from dreamer.protocol.registry.standing import VerifyMember
from dreamer.protocol.rooms.membership import Member, parse_chain, verify_chain
from dreamer.protocol.rooms.revocations import RevocationSet


def member_verifier(revocations: RevocationSet | None = None) -> VerifyMember:
    """Return the check of a record's author.

    What a revoked node said counts no longer, whenever it says it said so: whoever holds a stolen
    key can date records back. Another publisher may publish the same model again.
    """

    def check(room: RoomId, chain: Chain, now: float, /) -> Member:
        member = verify_chain(room, parse_chain(chain), now)
        if revocations is not None:
            revocations.check(member)
        return member

    return check
