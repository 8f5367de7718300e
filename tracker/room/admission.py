"""Whether a node that logs in may enter a room: its signature, its chain, and what was recorded."""

from __future__ import annotations

from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.ids import RoomId
from dreamer.protocol.rooms.keys import Purpose, verify
from dreamer.protocol.rooms.membership import Member, verify_chain
from dreamer.protocol.rooms.revocations import REVOKED_MESSAGE, Revocation, RevocationSet
from dreamer.protocol.tracker_limits import (
    TRACKER_ROOM_KEY_REVOCATIONS,
    TRACKER_ROOM_MAX_REVOCATIONS,
)
from dreamer.tracker.room.documents import Documents, Revoked
from dreamer.tracker.room.refusal import Reason, RefusedError
from dreamer.tracker.room.wire import Login


def prove(login: Login, nonce: bytes, now: float) -> Member:
    """Return the member that a login proves, whose name of the tracker was checked.

    The room needn't be known: its key is its name.

    Raises:
        ForbiddenError: the signature, or a rule of the chain, says no.
    """
    message = nonce + login.room_id + login.node_id + login.tracker.encode()
    verify(login.node_id, Purpose.TRACKER_LOGIN, message, login.signature)
    member = verify_chain(login.room_id, login.chain, now)
    if member.node_id != login.node_id:
        raise ForbiddenError("the membership is another node's")
    return member


def admit(documents: Documents, room_id: RoomId, member: Member, now: float) -> Revoked:
    """Record a member's first login, or recognise a later one; return what its room revoked.

    Every invitation of the chain is redeemed, not only the last: else a spent invitation with the
    role admin could make any number of admins who exist only on paper, and they could invite.
    Blocks.

    Raises:
        RefusedError: it was revoked, an invitation is used up or has expired, or a limit is met.
    """
    revoked = documents.revoked(room_id)
    if revoked.nodes.holds_against(member):
        raise RefusedError(Reason.REVOKED, REVOKED_MESSAGE)
    documents.redeem(room_id, member.admissions, now)
    return revoked


def revoke(
    documents: Documents, room_id: RoomId, revocation: Revocation, now: float
) -> RevocationSet | None:
    """Verify a revocation and keep it; return all that are in force now. Blocks.

    None: this very one is kept already. Any member may pass on one that was made at another
    tracker, whatever its number: an admin here may have used the same one.

    Raises:
        ForbiddenError: whoever signed it may not revoke, or too much was revoked.
    """
    kept = documents.revoked(room_id)
    if kept.holds(revocation):
        return None
    # A copy: what is refused below must leave no trace in the one that others read.
    known = RevocationSet(room_id, kept.log)
    known.add(revocation, now)
    # The room's own key keeps some for itself: an admin who goes bad could use up all the others.
    kept_back = TRACKER_ROOM_KEY_REVOCATIONS if revocation.chain else 0
    if len(kept.log) >= TRACKER_ROOM_MAX_REVOCATIONS - kept_back:
        raise ForbiddenError(
            f"this room has {len(kept.log)} revocations, and its tracker keeps no more: "
            "make a new room, and invite those who are to stay"
        )
    documents.add_revocation(revocation)
    return known
