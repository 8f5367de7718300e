"""What this node can give to a room's members: whole models, and the verified part of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.ids import Digest, ManifestId, RoomId
from dreamer.protocol.swarm import bitfield


@dataclass
class Offering:
    """One model as this node holds it: ``blocks`` is the set of verified blocks."""

    manifest_id: ManifestId
    manifest: Manifest
    blocks: int
    metadata: Digest | None = None
    """Of its torrent, where the model is public."""

    @property
    def whole(self) -> bool:
        """Whether every block is here."""
        return self.blocks == bitfield.full(self.manifest.block_count)

    def names(self, digest: bytes) -> bool:
        """Return whether this is the hash of the manifest, its outboard or its metadata."""
        return digest in (self.manifest_id, self.manifest.outboard, self.metadata)


GainedListener = Callable[[RoomId, ManifestId, int], None]


class Library:
    """All offerings by room. A member of one room learns nothing of another's models."""

    def __init__(self) -> None:
        self._offerings: dict[tuple[RoomId, ManifestId], Offering] = {}
        self._listeners: list[GainedListener] = []

    def listen(self, listener: GainedListener) -> None:
        """Call ``listener(room, manifest id, blocks)`` whenever an offering comes, grows or goes.

        ``blocks`` is what was gained: 0 when it goes, or comes with nothing yet.
        """
        self._listeners.append(listener)

    def stop_listening(self, listener: GainedListener) -> None:
        """Leave a listener in peace; one that never listened is no error."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def find(self, room: RoomId, manifest_id: bytes) -> Offering | None:
        """Return the offering of a model in a room."""
        return self._offerings.get((room, ManifestId(manifest_id)))

    def in_room(self, room: RoomId) -> Iterator[Offering]:
        """Yield a room's offerings."""
        return (found for (where, _), found in self._offerings.items() if where == room)

    def everything(self) -> list[Offering]:
        """Return all offerings, of all rooms."""
        return list(self._offerings.values())

    def object_owner(self, room: RoomId, digest: bytes) -> Offering | None:
        """Return the offering that a manifest's or outboard's hash belongs to."""
        return next((found for found in self.in_room(room) if found.names(digest)), None)

    def offer(self, room: RoomId, manifest_id: ManifestId, manifest: Manifest, blocks: int) -> None:
        """Begin to offer a model, or offer more of it."""
        key = (room, manifest_id)
        is_new = key not in self._offerings
        found = self._offerings.setdefault(key, Offering(manifest_id, manifest, 0))
        gained = blocks & ~found.blocks
        found.blocks |= blocks
        if gained or is_new:
            self._tell(room, manifest_id, gained)

    def holds(self, room: RoomId, manifest_id: ManifestId) -> bool:
        """Return whether the whole model is here and belongs to the room."""
        found = self.find(room, manifest_id)
        return found is not None and found.whole

    def withdraw_everywhere(self, manifest_id: ManifestId) -> None:
        """Stop offering a model in every room."""
        for room, found in list(self._offerings):
            if found == manifest_id:
                self.withdraw(room, manifest_id)

    def withdraw(self, room: RoomId, manifest_id: ManifestId) -> None:
        """Stop offering a model."""
        if self._offerings.pop((room, manifest_id), None) is not None:
            self._tell(room, manifest_id, 0)

    def withdraw_room(self, room: RoomId) -> None:
        """Offer nothing any more in a room."""
        for offering in list(self.in_room(room)):
            self.withdraw(room, offering.manifest_id)

    def _tell(self, room: RoomId, manifest_id: ManifestId, blocks: int) -> None:
        for listener in list(self._listeners):
            listener(room, manifest_id, blocks)
