"""The memberships of a room that were ended: kept over restarts, and made by those who may."""

from __future__ import annotations

import logging

from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.room.book import Membership
from dreamer.daemon.state import State
from dreamer.protocol import canonical
from dreamer.protocol.errors import DreamerError, ForbiddenError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.limits import ROOM_MAX_REVOCATIONS
from dreamer.protocol.rooms.certificate import Role
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.protocol.rooms.revocations import Revocation, RevocationSet, parse_revocation

log = logging.getLogger(__name__)


class Revocations:
    """The revocations of one room that this node knows. ``ended`` says whom they end."""

    def __init__(self, room_id: RoomId, state: State) -> None:
        self._room_id = room_id
        self._state = state
        read = (_read(statement) for statement in state.revocations(room_id))
        # By their dates, since the store has no order: what an admin revoked before he was revoked
        # himself must be passed on before that is.
        known = sorted(
            (one for one in read if one is not None), key=lambda one: (one.revoked_at, one.number)
        )
        self.ended = RevocationSet(room_id, known)
        self._by_signature = {one.signature: one for one in known}

    def known(self) -> list[Revocation]:
        """Return all of them, in the order in which they came or, before a restart, were made."""
        return list(self._by_signature.values())

    def take(self, revocation: Revocation, now: float) -> bool:
        """Verify and keep a revocation, at ``now`` (epoch seconds); return whether it was new.

        Raises:
            ForbiddenError: it proves nothing, or an admin makes more of them than a room needs.
            LocalError: it can't be kept over a restart; it counts until then.
        """
        if revocation.signature in self._by_signature:
            return False
        # The room's own key is always heard.
        if revocation.chain and len(self._by_signature) >= ROOM_MAX_REVOCATIONS:
            raise ForbiddenError(
                f"more than {ROOM_MAX_REVOCATIONS} members were removed from the room: "
                "only the node that made it can remove more"
            )
        self.ended.add(revocation, now)
        self._by_signature[revocation.signature] = revocation
        statement = canonical.dumps(revocation.to_json())
        self._state.put_revocation(self._room_id, revocation.signature, statement)
        return True


def sign_revocation(
    membership: Membership, identity: NodeIdentity, node: NodeId, number: int, now: float
) -> Revocation:
    """Return the statement, made at ``now`` (epoch seconds), that ends a node's membership.

    Raises:
        ForbiddenError: this node is no admin of the room.
    """
    room_id, seed = membership.card.room_id, membership.room_seed
    if seed is not None:
        unsigned = Revocation(room_id, number, node, int(now), ())
        return unsigned.signed_by(SigningKey(seed))
    if Role.ADMIN not in membership.roles:
        raise ForbiddenError(
            f"only admins may remove members of room {membership.card.name}: ask one of them"
        )
    unsigned = Revocation(room_id, number, node, int(now), membership.chain)
    return unsigned.signed_by(identity.key)


def _read(statement: bytes) -> Revocation | None:
    try:
        return parse_revocation(canonical.loads(statement))
    except DreamerError as error:
        log.error("a revocation that was kept here can't be read: %s", error)
        return None
