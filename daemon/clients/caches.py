"""The Python client's view of the store."""

from __future__ import annotations

from collections.abc import Callable, Generator

from dreamer.daemon.ports import Progress, VerifyEvent
from dreamer.daemon.rest.caller import Caller
from dreamer.daemon.rest.json_form import from_json
from dreamer.daemon.surfaces.caches import (
    CachedInfo,
    CollectReceipt,
    PinInfo,
    StoreUsage,
    VerifyReceipt,
)
from dreamer.protocol.cache_limits import STORE_LEFTOVER_KEPT_S
from dreamer.protocol.errors import LocalError


class CachesClient:
    """``Dreamer().caches``; see ``surfaces.caches.Caches`` for each call."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def models(self) -> list[CachedInfo]:
        """Return every model of which something is here, the least recently used first."""
        found = self._caller.request("GET", "/store/models")["models"]
        return [from_json(CachedInfo, model) for model in found]

    def usage(self) -> StoreUsage:
        """Return where the bytes are."""
        return from_json(StoreUsage, self._caller.request("GET", "/store/usage"))

    def verify(
        self,
        ref: str | None = None,
        room: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> VerifyReceipt:
        """Hash one model's files anew, or all; damaged ones go to quarantine."""
        for event in self.verify_events(ref, room):
            if isinstance(event, VerifyReceipt):
                return event
            if progress is not None:
                progress(event)
        raise LocalError("dreamerd ended its work without a receipt: see its log")

    def verify_events(
        self, ref: str | None = None, room: str | None = None
    ) -> Generator[VerifyEvent, None, None]:
        """Verify, yielding progress and at last the receipt; closing it stops the work."""
        kinds = {"progress": Progress, "receipt": VerifyReceipt}
        return self._caller.events("/store/verify", {"ref": ref, "room": room}, kinds)

    def collect(
        self, remove: bool = False, older_than_s: float = STORE_LEFTOVER_KEPT_S
    ) -> CollectReceipt:
        """Find what nobody needs and is old enough; remove it if told so."""
        body = {"remove": remove, "older_than_s": older_than_s}
        return from_json(CollectReceipt, self._caller.request("POST", "/store/gc", body))

    def pins(self) -> list[PinInfo]:
        """Return all pins, of all daemons of this store."""
        return [
            from_json(PinInfo, pin) for pin in self._caller.request("GET", "/store/pins")["pins"]
        ]

    def pin(self, ref: str, room: str | None = None, alias: bool = False) -> PinInfo:
        """Never evict a model; with ``alias``, whichever model the alias ``ref`` means."""
        body = {"ref": ref, "room": room, "alias": alias}
        return from_json(PinInfo, self._caller.request("POST", "/store/pin", body))

    def unpin(self, ref: str, room: str | None = None, alias: bool = False) -> list[PinInfo]:
        """Remove a pin, and return it."""
        body = {"ref": ref, "room": room, "alias": alias}
        gone = self._caller.request("POST", "/store/unpin", body)["unpinned"]
        return [from_json(PinInfo, pin) for pin in gone]
