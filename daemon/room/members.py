"""The members of one room that have shown who they are, and whether they still may be there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable

from dreamer.daemon.room.revocations import Revocations
from dreamer.daemon.state import State
from dreamer.protocol import canonical
from dreamer.protocol.errors import (
    AmbiguousError,
    ForbiddenError,
    InputError,
    NoMatchError,
    RemoteProtocolError,
)
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.limits import NODE_MIN_PREFIX_DIGITS
from dreamer.protocol.rooms.certificate import Role
from dreamer.protocol.rooms.membership import Member, parse_chain, verify_chain
from dreamer.protocol.rooms.revocations import Revocation, RevocationSet

_ID = re.compile(rf"[0-9a-f]{{{NODE_MIN_PREFIX_DIGITS},64}}", re.ASCII)


class Members:
    """Judges who may be linked to in a room. ``clock`` gives epoch seconds."""

    def __init__(
        self, room_id: RoomId, state: State, clock: Callable[[], float] = time.time
    ) -> None:
        self.revocations = Revocations(room_id, state)
        self._room_id = room_id
        self._state = state
        self._clock = clock
        self._proved: dict[NodeId, Member] = {}

    def verify(self, data: bytes) -> NodeId:
        """Return whose membership ``data`` proves: a chain as canonical JSON.

        Raises:
            RemoteProtocolError: it can't be read.
            ForbiddenError: it proves nothing, was ended, or its invitation was used up.
        """
        try:
            chain = parse_chain(canonical.loads(data).get("chain"))
        except InputError as error:
            raise RemoteProtocolError(f"a membership that can't be read: {error}") from error
        member = verify_chain(self._room_id, chain, self._clock())
        self.revocations.ended.check(member)
        for admission in member.admissions:
            users = self._state.use_invite(admission.invite_id, admission.node_id, self._clock())
            if admission.node_id not in users[: admission.uses]:
                raise ForbiddenError("its invitation had been used by another node before")
        self._proved[member.node_id] = member
        return member.node_id

    def take(self, revocation: Revocation) -> bool:
        """Keep a revocation; see ``Revocations.take``."""
        return self.revocations.take(revocation, self._clock())

    def ended(self, node: NodeId) -> bool:
        """Return whether a node that was verified before has lost its membership since."""
        member = self._proved.get(node)
        return member is not None and self.revocations.ended.holds_against(member)

    def roles(self, node: NodeId) -> tuple[Role, ...]:
        """Return what a node that was verified may do; nothing for another."""
        member = self._proved.get(node)
        return member.roles if member is not None else ()

    def check_ends(self, revocation: Revocation) -> None:
        """Make sure that a revocation made here would end the membership of the node it names.

        Raises:
            ForbiddenError: only the room's own key can.
        """
        member = self._proved.get(revocation.node_id)
        if member is None or RevocationSet(self._room_id, [revocation]).holds_against(member):
            return
        raise ForbiddenError(
            f"{revocation.node_id.hex()[:8]} is a member by the room's own key: only the node "
            "that made the room can remove it"
        )


def find_member(ref: str, known: Iterable[NodeId]) -> NodeId:
    """Return the node whose id is ``ref``, or the known one whose id begins so.

    Names are not looked at: any member may call itself like another.

    Raises:
        InputError: it is no id, nor the start of one.
        NoMatchError: no known member's id begins so.
        AmbiguousError: several do.
    """
    if not _ID.fullmatch(ref):
        raise InputError(
            f"{ref!r:.80} is no node: give its id, or {NODE_MIN_PREFIX_DIGITS} of its first "
            "digits or more, as 'dreamer peers' shows them"
        )
    if len(ref) == 64:
        return NodeId(bytes.fromhex(ref))
    matches = sorted({node: None for node in known if node.hex().startswith(ref)})
    if not matches:
        raise NoMatchError(f"no member is known whose id begins with {ref}: give its whole id")
    if len(matches) > 1:
        raise AmbiguousError(f"{len(matches)} members' ids begin with {ref}: give more digits")
    return matches[0]
