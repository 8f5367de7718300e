"""Ending a membership before its time: signed statements that name a node.

A revocation carries the chain of the admin who made it, so anyone can check it offline, and anyone
may pass it on to a tracker that was away. Its signature tells it from others: two admins at two
trackers may give theirs the same number, and both count. What is kept is the set of nodes, which
only grows. Whom a revoked node had invited is refused with it: otherwise a stolen admin key could
go on inviting with old dates.

A revocation whose admin's membership has run out since counts for ``REVOCATION_LATE_S`` after its
date, if it was in force then. The date is the admin's own word: whose time is over could still
remove members for that long, though never let anybody in, nor touch whom the room's key certified.
What was made by an admin who was revoked himself counts only where it was heard of before that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from dreamer.protocol import canonical
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.ids import NodeId, RoomId, from_hex, short
from dreamer.protocol.limits import REVOCATION_LATE_S
from dreamer.protocol.rooms import fields
from dreamer.protocol.rooms.certificate import Role
from dreamer.protocol.rooms.keys import SIGNATURE_BYTES, Purpose, SigningKey, verify
from dreamer.protocol.rooms.membership import (
    Chain,
    Member,
    chain_to_json,
    parse_chain,
    verify_chain,
)

REVOKED_MESSAGE = "this node's membership was revoked: ask an admin about it"

_NAMES = ("room", "number", "node", "revoked_at", "chain", "sig")


@dataclass(frozen=True)
class Revocation:
    """``node_id`` is no longer a member. ``chain`` is the admin's; empty when the room key signed.

    ``revoked_at`` is in whole epoch seconds.
    """

    room_id: RoomId
    number: int
    node_id: NodeId
    revoked_at: int
    chain: Chain
    signature: bytes = b""

    @property
    def issuer(self) -> bytes:
        """The public key that signed: the room's own, or the admin's."""
        return self.chain[-1].subject if self.chain else self.room_id

    def signed_bytes(self) -> bytes:
        """Return what the signature is over."""
        unsigned = self.to_json()
        del unsigned["sig"]
        return canonical.dumps(unsigned)

    def signed_by(self, key: SigningKey) -> Revocation:
        """Return this revocation signed with the room's key, or with the key its chain ends in."""
        return replace(self, signature=key.sign(Purpose.REVOCATION, self.signed_bytes()))

    def to_json(self) -> Json:
        """Return the revocation as a JSON object, bytes as hex."""
        return {
            "room": self.room_id.hex(),
            "number": self.number,
            "node": self.node_id.hex(),
            "revoked_at": self.revoked_at,
            "chain": chain_to_json(self.chain),
            "sig": self.signature.hex(),
        }


def parse_revocation(value: object) -> Revocation:
    """Return the revocation in a JSON value; nothing of it is verified here.

    Raises:
        InputError: a field is missing, unknown or malformed.
    """
    said = fields.exact(value, _NAMES, "a revocation")
    return Revocation(
        room_id=RoomId(from_hex(said["room"], "a revocation's room")),
        number=fields.whole(said["number"], "a revocation's number"),
        node_id=NodeId(from_hex(said["node"], "a revocation's node")),
        revoked_at=fields.whole(said["revoked_at"], "revoked_at"),
        chain=() if said["chain"] == [] else parse_chain(said["chain"]),
        signature=from_hex(said["sig"], "a revocation's signature", SIGNATURE_BYTES),
    )


class RevocationSet:
    """The nodes that one room has revoked, as far as this machine knows."""

    def __init__(self, room_id: RoomId, known: Iterable[Revocation] = ()) -> None:
        """Start from revocations that were verified before, as from a store of our own."""
        self._room_id = room_id
        self._by_node: dict[NodeId, Revocation] = {}
        self._last_number = 0
        for revocation in known:
            self._keep(revocation)

    def __len__(self) -> int:
        return len(self._by_node)

    @property
    def next_number(self) -> int:
        """The number for the next revocation that is made here: one more than any known."""
        return self._last_number + 1

    def add(self, revocation: Revocation, now: float) -> None:
        """Verify a revocation and remember it.

        Raises:
            ForbiddenError: it is for another room, its signature or chain is wrong, or whoever
                signed it isn't an admin, or was revoked before.
        """
        if revocation.room_id != self._room_id:
            raise ForbiddenError(f"this revocation is for room {short(revocation.room_id)}")
        if revocation.chain:
            admin = self._admin(revocation, now)
            # A revoked admin would otherwise take its revenge.
            self.check(admin)
            if not admin.may(Role.ADMIN):
                raise ForbiddenError("only the room's key and admins may revoke")
        verify(
            revocation.issuer, Purpose.REVOCATION, revocation.signed_bytes(), revocation.signature
        )
        self._keep(revocation)

    def _admin(self, revocation: Revocation, now: float) -> Member:
        """Return who made a revocation, by a chain that is in force, or was at its date."""
        try:
            return verify_chain(self._room_id, revocation.chain, now)
        except ForbiddenError:
            if not 0 <= now - revocation.revoked_at <= REVOCATION_LATE_S:
                raise
            return verify_chain(self._room_id, revocation.chain, revocation.revoked_at)

    def check(self, member: Member) -> None:
        """Refuse a member that was revoked, or that a revoked node let in.

        Raises:
            ForbiddenError: it was.
        """
        if self.holds_against(member):
            raise ForbiddenError(REVOKED_MESSAGE)

    def holds_against(self, member: Member) -> bool:
        """Return whether a member was revoked, or let in by a node that was."""
        return any(self._ended(member, node) for node in member.path)

    def _ended(self, member: Member, node: NodeId) -> bool:
        found = self._by_node.get(node)
        # Only the room's own key can undo what it certified itself: otherwise one stolen admin
        # key could lock the creator out of the room.
        certified_by_room = node == member.path[0] and len(member.admissions) < len(member.path)
        return found is not None and not (certified_by_room and found.chain)

    def _keep(self, revocation: Revocation) -> None:
        self._last_number = max(self._last_number, revocation.number)
        known = self._by_node.get(revocation.node_id)
        # The room key's word is the stronger: see _ended.
        if known is None or (known.chain and not revocation.chain):
            self._by_node[revocation.node_id] = revocation
