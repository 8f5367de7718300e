"""The origins of this node's rooms, made when first needed; boto3 is loaded only then."""

from __future__ import annotations

from collections.abc import Callable

from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.origin.urls import UrlSource
from dreamer.protocol.ids import RoomId
from dreamer.protocol.rooms.card import RoomCard


class Origins:
    """One origin a room; threads may use what is returned.

    ``signing`` returns who signs URLs for a room when this node has no credentials.
    """

    def __init__(self, signing: Callable[[RoomCard], UrlSource] | None = None) -> None:
        self._signing = signing
        self._origins: dict[RoomId, Origin] = {}

    def of(self, card: RoomCard) -> Origin | None:
        """Return a room's origin, or None when it has none."""
        if card.origin is None:
            return None
        if card.room_id not in self._origins:
            source = self._signing(card) if self._signing else None
            made = Origin(card.origin, card.endpoint_url, source=source)
            self._origins[card.room_id] = made
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
