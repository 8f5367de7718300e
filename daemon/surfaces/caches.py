"""The store as its user sees it: what is kept, why, how much, and what may go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dreamer.protocol.cache_limits import STORE_LEFTOVER_KEPT_S

if TYPE_CHECKING:
    from dreamer.daemon.ports import VerifyEvent


@dataclass(frozen=True)
class PinInfo:
    """Why a model is never evicted; ``reason`` in words. ``at``: epoch seconds.

    ``alias`` and ``room`` are empty unless an alias holds it; ``by`` names the node where it was
    said.
    """

    manifest_id: str
    reason: str
    alias: str = ""
    room: str = ""
    by: str = ""
    at: float = 0.0


@dataclass(frozen=True)
class CachedInfo:
    """One model in the store, sizes in bytes.

    ``here_bytes`` of ``size_bytes`` are in whole files; ``own_bytes`` come free when it goes.
    ``in_use`` says how, in words, empty if not. ``whole``: all files are here, verified or not.
    """

    manifest_id: str
    short_id: str
    name: str
    size_bytes: int
    here_bytes: int
    own_bytes: int
    last_used: float
    whole: bool
    in_use: str
    pinned: tuple[PinInfo, ...] = ()
    expires_at: float | None = None


@dataclass(frozen=True)
class OwnBytes:
    """What one model alone takes."""

    manifest_id: str
    name: str
    own_bytes: int


@dataclass(frozen=True)
class StoreUsage:
    """Where the store's bytes are; see ``store.inventory.Breakdown``. A quota of 0 is none."""

    path: str
    models: tuple[OwnBytes, ...]
    shared_bytes: int
    unnamed_bytes: int
    partial_bytes: int
    quarantine_bytes: int
    staging_bytes: int
    objects_bytes: int
    copies_bytes: int
    used_bytes: int
    quota_bytes: int
    free_bytes: int
    min_free_bytes: int


@dataclass(frozen=True)
class VerifiedModel:
    """One model after its verification: the paths of files that are missing or were damaged."""

    manifest_id: str
    name: str
    size_bytes: int
    lacking: tuple[str, ...]


@dataclass(frozen=True)
class VerifyReceipt:
    """What a verification found; ``advice`` says what to do, empty if all is well.

    A model that was fetched in part only lacks files, and is no reason for concern.
    """

    models: tuple[VerifiedModel, ...]
    damaged: int
    advice: str


@dataclass(frozen=True)
class LeftoverInfo:
    """One thing that nobody needs: ``kind`` is partial, quarantine, staging, file or object."""

    kind: str
    name: str
    size_bytes: int


@dataclass(frozen=True)
class CollectReceipt:
    """What was found, and whether it was removed."""

    found: tuple[LeftoverInfo, ...]
    size_bytes: int
    removed: bool


class Caches(Protocol):
    """What can be done with a node's store. Every call raises a DreamerError on failure."""

    async def models(self) -> list[CachedInfo]:
        """Return every model of which something is here, the least recently used first."""
        ...

    async def usage(self) -> StoreUsage:
        """Return where the bytes are."""
        ...

    def verify(self, ref: str | None, room: str | None) -> AsyncIterator[VerifyEvent]:
        """Hash one model's files anew, or all; damaged ones go to quarantine."""
        ...

    async def collect(
        self, remove: bool = False, older_than_s: float = STORE_LEFTOVER_KEPT_S
    ) -> CollectReceipt:
        """Find what nobody needs and is old enough, and remove it if told so."""
        ...

    async def pins(self) -> list[PinInfo]:
        """Return all pins, of all daemons of this store."""
        ...

    async def pin(self, ref: str, room: str | None, alias: bool = False) -> PinInfo:
        """Never evict a model; with ``alias``, whichever model the alias ``ref`` means."""
        ...

    async def unpin(self, ref: str, room: str | None, alias: bool = False) -> list[PinInfo]:
        """Remove a pin, and return it; of a model all but those of its aliases."""
        ...
