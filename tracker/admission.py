"""Whether a node that logs in may enter a room: its signature, its chain, and what was recorded."""

from __future__ import annotations

from dreamer.protocol.errors import ConflictError, ForbiddenError
from dreamer.protocol.ids import RoomId
from dreamer.protocol.rooms.keys import Purpose, verify
from dreamer.protocol.rooms.membership import Member, verify_chain
from dreamer.protocol.rooms.revocations import REVOKED_MESSAGE, Revocation
from dreamer.tracker.documents import Documents
from dreamer.tracker.refusal import Reason, RefusedError
from dreamer.tracker.room_wire import Login


def prove(login: Login, nonce: bytes, now: float) -> Member:
    """Return the member that a login proves. The room needn't be known: its key is its name.

    Raises:
        ForbiddenError: the signature, or a rule of the chain, says no.
    """
    message = nonce + login.room_id + login.node_id
    verify(login.node_id, Purpose.TRACKER_LOGIN, message, login.signature)
    member = verify_chain(login.room_id, login.chain, now)
    if member.node_id != login.node_id:
        raise ForbiddenError("the membership is another node's")
    return member


def admit(documents: Documents, room_id: RoomId, member: Member, now: float) -> None:
    """Record a member's first login, or recognise a later one. Blocks.

    Every invitation of the chain is redeemed, not only the last: else a spent invitation with the
    role admin could make any number of admins who exist only on paper, and they could invite.

    Raises:
        RefusedError: it was revoked, or an invitation is used up or has expired.
    """
    if documents.revocations(room_id).holds_against(member):
        raise RefusedError(Reason.REVOKED, REVOKED_MESSAGE)
    documents.redeem(room_id, member.admissions, now)


def revoke(documents: Documents, room_id: RoomId, revocation: Revocation, now: float) -> None:
    """Verify a revocation and keep it. Blocks.

    Raises:
        ForbiddenError: whoever signed it may not revoke.
        ConflictError: its number isn't the next.
    """
    known = documents.revocations(room_id)
    expected = known.next_number
    known.add(revocation, now)
    if revocation.number != expected:
        raise ConflictError(f"the next revocation of this room has number {expected}")
    documents.add_revocation(revocation)
