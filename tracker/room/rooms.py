"""Who is present in which room, with what capabilities, in which swarms. No sockets, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.ids import InfoHash, NodeId, RoomId
from dreamer.protocol.rooms.membership import Member
from dreamer.protocol.swarm.holders import Found, Swarm
from dreamer.protocol.tracker_limits import (
    TRACKER_MAX_SWARMS_PER_MEMBER,
    TRACKER_ROOM_MAX_MEMBERS,
)
from dreamer.tracker.room.refusal import Reason, RefusedError


@dataclass(eq=False)
class Guest:
    """A member while its socket lives. ``post`` sends it news without waiting."""

    room_id: RoomId
    member: Member
    post: Callable[[str], None]
    forward: Callable[[NodeId, str], bool]
    """Sends what another member handed on; False when that one has too much waiting here."""
    cut: Callable[[RefusedError], None]
    """Ends the socket, saying why."""
    capabilities: str = "{}"
    """A JSON object, as text: it is read by the others, never here."""
    swarms: dict[InfoHash, None] = field(default_factory=dict)

    @property
    def node_id(self) -> NodeId:
        """The node that this is."""
        return self.member.node_id


class Room:
    """The members of one room that are present."""

    def __init__(self) -> None:
        self.guests: dict[NodeId, Guest] = {}
        self._swarms: dict[InfoHash, Swarm] = {}

    def others(self, than: NodeId) -> Iterator[Guest]:
        """Yield everyone present but one."""
        return (guest for node, guest in self.guests.items() if node != than)

    def claim(self, guest: Guest, swarms: Iterable[InfoHash], *, whole: bool) -> None:
        """Enter a member in swarms of which it has, or else fetches, the model.

        Raises:
            ForbiddenError: it would be in too many.
        """
        for swarm in swarms:
            if len(guest.swarms) >= TRACKER_MAX_SWARMS_PER_MEMBER:
                raise ForbiddenError(f"a node may be in {TRACKER_MAX_SWARMS_PER_MEMBER} swarms")
            guest.swarms[swarm] = None
            found = self._swarms.get(swarm)
            if found is None:
                found = self._swarms[swarm] = Swarm(swarm)
            found.claim(guest.node_id, whole=whole)

    def disclaim(self, guest: Guest, swarms: Iterable[InfoHash]) -> None:
        """Take a member out of swarms."""
        for swarm in swarms:
            # None is what the dict holds, so something else must stand for absence.
            if guest.swarms.pop(swarm, self) is self:
                continue
            left = self._swarms[swarm]
            left.disclaim(guest.node_id)
            if not left:
                del self._swarms[swarm]

    def holders(self, swarm: InfoHash, asker: NodeId, rng: Random) -> Found:
        """Return members that hold or fetch a model, by chance when there are many."""
        found = self._swarms.get(swarm)
        return Found() if found is None else found.found(asker, rng)


class Rooms:
    """Every room with somebody in it; an empty one leaves no trace."""

    def __init__(self) -> None:
        self._rooms: dict[RoomId, Room] = {}

    def enter(self, guest: Guest) -> Guest | None:
        """Make a member present; return its older self that this one replaces.

        Raises:
            RefusedError: the room is full.
        """
        room = self._rooms.setdefault(guest.room_id, Room())
        older = room.guests.get(guest.node_id)
        if older is not None:
            room.disclaim(older, list(older.swarms))
        elif len(room.guests) >= TRACKER_ROOM_MAX_MEMBERS:
            raise RefusedError(Reason.FULL, "the room is full at this tracker: try again later")
        room.guests[guest.node_id] = guest
        return older

    def leave(self, guest: Guest) -> bool:
        """Take a member out; False when it wasn't in, or a newer socket of it is."""
        room = self._rooms.get(guest.room_id)
        if room is None or room.guests.get(guest.node_id) is not guest:
            return False
        room.disclaim(guest, list(guest.swarms))
        del room.guests[guest.node_id]
        if not room.guests:
            del self._rooms[guest.room_id]
        return True

    def guests(self, room_id: RoomId) -> list[Guest]:
        """Return everyone present in a room."""
        room = self._rooms.get(room_id)
        return list(room.guests.values()) if room else []

    def room_of(self, guest: Guest) -> Room | None:
        """Return the room that a member is present in; None when it was replaced or cut."""
        room = self._rooms.get(guest.room_id)
        return room if room and room.guests.get(guest.node_id) is guest else None

    def expired(self, now: float) -> list[Guest]:
        """Return members whose membership has ended by ``now`` (epoch seconds)."""
        return [
            guest
            for room in self._rooms.values()
            for guest in room.guests.values()
            if guest.member.not_after is not None and guest.member.not_after < now
        ]
