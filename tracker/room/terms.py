"""Whom a tracker serves, as its owner has set: which rooms, and by which names it is reached."""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.ids import RoomId
from dreamer.tracker.room.refusal import Reason, RefusedError


@dataclass(frozen=True)
class Terms:
    """``rooms`` that may use the tracker and ``names`` (HOST:PORT) it is known by; empty: any."""

    rooms: frozenset[RoomId] = frozenset()
    names: frozenset[str] = frozenset()

    def check_room(self, room_id: RoomId) -> None:
        """Refuse a room that isn't on the list.

        Raises:
            RefusedError: it isn't.
        """
        if self.rooms and room_id not in self.rooms:
            raise RefusedError(
                Reason.FORBIDDEN,
                "this tracker serves only the rooms it was told to: have its owner add "
                f"{room_id.hex()} to rooms in [tracker]",
            )

    def check_name(self, dialled: str, host: str) -> None:
        """Refuse a login that was made for another tracker and is passed on to this one.

        ``dialled`` is what the node signed; ``host`` the ``Host`` header that the login came with.
        Whoever passes a login on can forge that header, too: only ``names`` keep it out.

        Raises:
            ForbiddenError: the node dialled something else than this tracker.
        """
        if dialled in self.names or (not self.names and dialled == host.lower()):
            return
        known = ", ".join(sorted(self.names)) or host
        raise ForbiddenError(
            f"this login is for tracker {dialled:.100}, and this is {known:.300}: dial that, "
            "or have its owner add the name to names in [tracker]"
        )
