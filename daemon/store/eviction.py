"""Room for what comes: what is least recently used goes, and nothing that anybody here uses.

What goes is decided in ``protocol/eviction.py``; here are the facts, the locks, and the words for
whoever must decide when nothing may go.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from dreamer.daemon.state import State
from dreamer.daemon.store import space
from dreamer.daemon.store.claims import Claims
from dreamer.daemon.store.files import StoredFiles
from dreamer.daemon.store.objects import Objects
from dreamer.daemon.store.pins import Pin, Pins
from dreamer.daemon.store.places import Places
from dreamer.daemon.store.quota import Need, Quota, growing, taken
from dreamer.daemon.store.removal import Removal
from dreamer.daemon.store.uses import Uses
from dreamer.protocol.cache_limits import STORE_NAMED_IN_REFUSAL
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.errors import DiskError, LocalError
from dreamer.protocol.eviction import Candidate, Kept, Plan, choose
from dreamer.protocol.ids import Digest, ManifestId, short

log = logging.getLogger(__name__)


def _weight(pin: Pin) -> bool:
    # Of several pins of a model the one that somebody set counts.
    return pin.kept is Kept.PINNED


_WHAT_TO_DO = {
    Kept.PINNED: "dreamer store unpin {ref}",
    Kept.ONLY_COPY: "dreamer store unpin {ref}, if it may be lost",
    Kept.UNASKED: "dreamer rm {ref}",
    Kept.IN_USE: "wait, or stop what uses it",
    Kept.YOUNG: "dreamer rm {ref}",
}


class Eviction:
    """Makes room in one store; whoever calls holds the lock for changes."""

    def __init__(
        self,
        places: Places,
        quota: Quota,
        objects: Objects,
        files: StoredFiles,
        uses: Uses,
        pins: Pins,
        claims: Claims,
        removal: Removal,
        state: State,
    ) -> None:
        self._places = places
        self._quota = quota
        self._objects = objects
        self._files = files
        self._uses = uses
        self._pins = pins
        self._claims = claims
        self._removal = removal
        self._state = state
        self.expires: Mapping[ManifestId, float] = {}
        """When temporary models expire (epoch seconds), as their rooms say; replaced as a whole."""
        self.on_evicted: Callable[[ManifestId], None] = lambda manifest_id: None
        """Called in the thread that made the room, once for each model that went."""

    def admit(self, need: Need, wanted: ManifestId | None = None) -> None:
        """Make sure that there is room; ``wanted`` is the model that it is for, which stays.

        Raises:
            DiskError: not enough may go; the message says what would have to.
            LocalError: there can never be enough.
            OSError: the disk said no.
        """
        busy = {wanted} if wanted is not None else set()
        while lacking := self._quota.lacking(need):
            if self._quota.hopeless(need):
                raise LocalError(self._hopeless(need))
            models = self.candidates(busy)
            plan = choose(models, lacking, time.time(), self._quota.limits.grace_s)
            if not plan.enough:
                raise self._refusal(need, plan, models)
            # What turns out to be in use after all is not chosen again.
            for victim in plan.victims:
                if not self._evict(victim):
                    busy.add(victim)

    def candidates(self, busy: set[ManifestId]) -> list[Candidate]:
        """Return every model as the cache holds it; those in ``busy`` are in use, too."""
        pinned = {pin.manifest_id: pin.kept for pin in sorted(self._pins.all(), key=_weight)}
        stays = {**pinned, **dict.fromkeys(busy, Kept.IN_USE)}
        models = self._objects.manifests(settled=True)
        return [
            self._candidate(manifest_id, manifest, stays.get(manifest_id))
            for manifest_id, manifest in models.items()
        ]

    def _candidate(
        self, manifest_id: ManifestId, manifest: Manifest, stays: Kept | None
    ) -> Candidate:
        if self.in_use(manifest_id):
            stays = Kept.IN_USE
        elif stays is None and not self._quota.asked:
            # Who never asked for a cache finds what was pulled where it was.
            stays = Kept.UNASKED
        files = {
            entry.digest: taken(status)
            for entry in manifest.files
            if (status := self._files.status(entry.digest)) is not None
        }
        return Candidate(
            manifest_id,
            files,
            own_bytes=self.own_bytes(manifest_id, manifest),
            last_used=self._uses.last(manifest_id),
            expires_at=self.expires.get(manifest_id),
            stays=stays,
        )

    def own_bytes(self, manifest_id: ManifestId, manifest: Manifest) -> int:
        """Return what only this model takes: its partial files and its description."""
        own = 0
        for digest in (Digest(manifest_id), manifest.outboard):
            own += self._objects.allocated_bytes(digest)
        return own + self.partial_bytes(manifest_id)

    def partial_bytes(self, manifest_id: ManifestId) -> int:
        """Return what the partial files of a model count for."""
        total = 0
        try:
            for path in self._places.partial_of(manifest_id).iterdir():
                total += growing(path.lstat())
        except FileNotFoundError:
            # None are there, or they are being finished this very moment.
            return total
        return total

    def in_use(self, manifest_id: ManifestId) -> bool:
        """Return whether any process uses or downloads a model."""
        return (
            self._claims.is_claimed(manifest_id)
            or self._uses.is_here(manifest_id)
            or self._uses.is_elsewhere(manifest_id)
        )

    def _evict(self, manifest_id: ManifestId) -> bool:
        name, freed = self._name(manifest_id), 0
        with ExitStack() as stack:
            lock = self._uses.alone(manifest_id)
            if lock is None:
                return False
            # The file goes with the model; who waits for it makes it anew.
            stack.callback(lock.discard)
            if not stack.enter_context(self._claims.tried(manifest_id)):
                return False
            freed = self._removal.remove(manifest_id)
        log.info("evicted %s (%s, %s)", name, short(manifest_id), space.readable(freed))
        self.on_evicted(manifest_id)
        return True

    # What to say when there is no room

    def _name(self, manifest_id: ManifestId) -> str:
        held = self._state.model(manifest_id)
        return held.name if held else short(manifest_id)

    def _hopeless(self, need: Need) -> str:
        said = self._quota.figures(need)
        if self._quota.bounded and need.quota_bytes > self._quota.limits.quota_bytes:
            return f"{said}: the whole quota is too small, raise quota_gib in [store]"
        return f"{said}: the whole disk is too small, set MODELS_DIR to a larger one"

    def _refusal(self, need: Need, plan: Plan, models: list[Candidate]) -> DiskError:
        sizes = {one.manifest_id: sum(one.files.values()) + one.own_bytes for one in models}
        blocked = [self._blocked(name, why, sizes[name]) for name, why in plan.blocked]
        said = self._quota.figures(need)
        if plan.missing_bytes or not blocked:
            hint = "free some, or set MODELS_DIR to a larger disk"
            if self._quota.bounded:
                hint = "free some ('dreamer store gc' lists leftovers), or raise quota_gib"
            return DiskError(said, hint, space.MAKE_ROOM)
        more = len(blocked) - STORE_NAMED_IN_REFUSAL
        named = "; ".join(blocked[:STORE_NAMED_IN_REFUSAL]) + (f"; {more} more" if more > 0 else "")
        # Both: who pulls reads it as an error, and as the reason of a pause.
        return DiskError(
            f"{said}; what would have to go: {named}", space.MAKE_ROOM, space.MAKE_ROOM
        )

    def _blocked(self, manifest_id: ManifestId, why: Kept, size_bytes: int) -> str:
        command = _WHAT_TO_DO[why].format(ref=short(manifest_id))
        reason = why.value
        if why is Kept.PINNED:
            reason = f"pinned {', '.join(pin.reason for pin in self._pins.of(manifest_id))}"
        name = f"{self._name(manifest_id)} {short(manifest_id)}"
        return f"{name}, {space.readable(size_bytes)}, {reason} ({command})"
