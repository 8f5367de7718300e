"""The origins of this node's rooms, made when first needed; boto3 is loaded only then."""

from __future__ import annotations

from collections.abc import Callable

from dreamer.daemon.origin.document import OriginDocument
from dreamer.daemon.origin.meter import Meter
from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.origin.urls import UrlSource
from dreamer.protocol.garbage.keys import temporary_prefix
from dreamer.protocol.ids import RoomId
from dreamer.protocol.origin_limits import TEMPORARY_ORIGINS_KEPT
from dreamer.protocol.registry.view import Model
from dreamer.protocol.rooms.card import RoomCard


class Origins:
    """One origin a room; threads may use what is returned.

    ``signing`` returns who signs URLs for a room when this node has no credentials; ``metering``
    who counts what a room's origin is asked for.
    """

    def __init__(
        self,
        signing: Callable[[RoomCard], UrlSource] | None = None,
        metering: Callable[[RoomId], Meter] | None = None,
    ) -> None:
        self._signing = signing
        self._metering = metering
        self._origins: dict[RoomId, Origin] = {}
        self._temporary: dict[tuple[RoomId, int], Origin] = {}

    def of(self, card: RoomCard) -> Origin | None:
        """Return a room's origin, or None when it has none."""
        if card.origin is None:
            return None
        if card.room_id not in self._origins:
            self._origins[card.room_id] = self._make(card, card.origin)
        return self._origins[card.room_id]

    def _make(self, card: RoomCard, url: str) -> Origin:
        source = self._signing(card) if self._signing else None
        meter = self._metering(card.room_id) if self._metering else None
        return Origin(url, card.endpoint_url, source=source, meter=meter)

    def of_model(self, card: RoomCard, model: Model) -> Origin | None:
        """Return where a room's model is kept: temporary uploads have a place of their own."""
        if model.expires_at is None:
            return self.of(card)
        return self.temporary(card, int(model.expires_at))

    def temporary(self, card: RoomCard, expires_at: int) -> Origin | None:
        """Return the place of temporary uploads that end at ``expires_at`` (epoch seconds)."""
        room = self.of(card)
        if room is None:
            return None
        key = (card.room_id, expires_at)
        if key not in self._temporary:
            prefix = temporary_prefix(room.address, expires_at)
            self._temporary[key] = self._make(card, f"s3://{room.address.bucket}/{prefix}")
            # Closed ones open again when they are used: whoever still has one loses nothing.
            while len(self._temporary) > TEMPORARY_ORIGINS_KEPT:
                self._temporary.pop(next(iter(self._temporary))).close()
        return self._temporary[key]

    def registry(self, card: RoomCard) -> OriginDocument:
        """Return the registry of a room that keeps it at its origin."""
        origin = self.of(card)
        assert origin is not None, "a card with its registry at the origin has an origin"
        return origin.registry(card.room_id)

    def forget(self, card: RoomCard) -> None:
        """Close a room's origin, if it has been made."""
        if origin := self._origins.pop(card.room_id, None):
            origin.close()
        for key in [key for key in self._temporary if key[0] == card.room_id]:
            self._temporary.pop(key).close()

    def close(self) -> None:
        """Close them all."""
        for origin in (*self._origins.values(), *self._temporary.values()):
            origin.close()
        self._origins.clear()
        self._temporary.clear()
