"""The origins of this node's rooms, made when first needed; boto3 is loaded only then."""

from __future__ import annotations

from dreamer.daemon.origin.origin import Origin
from dreamer.protocol.ids import RoomId
from dreamer.protocol.rooms.card import RoomCard


class Origins:
    """One origin a room; threads may use what is returned."""

    def __init__(self) -> None:
        self._origins: dict[RoomId, Origin] = {}

    def of(self, card: RoomCard) -> Origin | None:
        """Return a room's origin, or None when it has none."""
        if card.origin is None:
            return None
        if card.room_id not in self._origins:
            self._origins[card.room_id] = Origin(card.origin, card.endpoint_url)
        return self._origins[card.room_id]

    def forget(self, card: RoomCard) -> None:
        """Close a room's origin, if it has been made."""
        if origin := self._origins.pop(card.room_id, None):
            origin.close()

    def close(self) -> None:
        """Close them all."""
        for origin in self._origins.values():
            origin.close()
        self._origins.clear()
