"""What one model costs in one room, as its pulls and its swarm tell the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dreamer.daemon.costs.ledger import Ledger
from dreamer.daemon.costs.origin_meter import KeyOwners, OriginMeter
from dreamer.daemon.sharing.library import Library
from dreamer.protocol.costs import CACHE, USES, WANTED, Entry, What
from dreamer.protocol.ids import ManifestId, RoomId
from dreamer.protocol.swarm.vocabulary import Lane


@dataclass
class Account:
    """A model's part of the ledger; one for each pull job, for it knows what it has told."""

    ledger: Ledger
    room: RoomId
    model: ManifestId
    _told: dict[Lane, int] = field(default_factory=dict)

    def moved(self, by_lane: Mapping[Lane, int]) -> None:
        """Take how many verified bytes each lane has brought since the job began.

        The origin's are left out: they are counted on the wire, good or bad (``origin.meter``).
        """
        for lane, size in by_lane.items():
            if lane is not Lane.ORIGIN and (more := size - self._told.get(lane, 0)):
                self._told[lane] = size
                self._add(Entry(lane.value, What.DOWN), more)

    def gave(self, lane: Lane, size_bytes: int) -> None:
        """Take bytes of the model that others were given."""
        self._add(Entry(lane.value, What.UP), size_bytes)

    def used(self, size_bytes: int, cached_bytes: int) -> None:
        """Count a use: the model is whole here, ``cached_bytes`` of it from the store itself."""
        self._add(USES, 1)
        self._add(WANTED, size_bytes)
        self._add(Entry(CACHE, What.DOWN), cached_bytes)

    def _add(self, entry: Entry, amount: int) -> None:
        self.ledger.add(self.room, self.model, entry, amount)


class Accounts:
    """The accounts of a node: its ledger, and which key of an origin belongs to which model."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.owners = KeyOwners()

    def of(self, room: RoomId, model: ManifestId) -> Account:
        """Return an account for one pull job, or one use."""
        return Account(self.ledger, room, model)

    def meter(self, room: RoomId) -> OriginMeter:
        """Return what counts what a room's origin is asked for."""
        return OriginMeter(self.ledger, room, self.owners)

    def watch(self, library: Library) -> None:
        """Know the keys of whatever is offered here: it was pulled, pushed, or held before."""

        def offered(room: RoomId, manifest_id: ManifestId, blocks: int) -> None:
            found = library.find(room, manifest_id)
            # Told of every block; the keys stay the same.
            if found is not None and not self.owners.knows(found.manifest):
                self.owners.concerns(manifest_id, found.manifest)

        library.listen(offered)
