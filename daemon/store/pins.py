"""Which models are never evicted, and why: one small file for each pin, in the store itself.

Pins lie in the store and not in a node's database, for all daemons that share a volume must heed
them. A pin of an alias holds the model that the alias meant when a daemon of its room last looked;
daemons that are in that room keep it up to date.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from dreamer.daemon.store import fresh, space
from dreamer.daemon.store.places import Places
from dreamer.protocol.cache_limits import STORE_PIN_MAX_BYTES
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.eviction import Kept
from dreamer.protocol.ids import ManifestId, RoomId, from_hex

log = logging.getLogger(__name__)

ONLY_COPY_SUFFIX = ".only"


@dataclass(frozen=True)
class Pin:
    """Why a model is kept: ``alias`` of a room means it, or (empty) somebody said so.

    ``only_copy``: nobody said so, but it was pushed here and may be nowhere else. ``by`` names the
    node where it was said, ``at`` is when, in epoch seconds.
    """

    manifest_id: ManifestId
    alias: str = ""
    room_id: RoomId | None = None
    room: str = ""
    by: str = ""
    at: float = 0.0
    only_copy: bool = False

    @property
    def reason(self) -> str:
        """In words, for people."""
        if self.only_copy:
            return "as the only copy"
        return f"by alias {self.alias} in {self.room}" if self.alias else "by hand"

    @property
    def kept(self) -> Kept:
        """What this means for an eviction."""
        return Kept.ONLY_COPY if self.only_copy else Kept.PINNED

    @property
    def file_name(self) -> str:
        """The name of its file: one for each model by hand, one for each alias."""
        if self.only_copy:
            return f"{self.manifest_id.hex()}{ONLY_COPY_SUFFIX}"
        if not self.alias:
            return self.manifest_id.hex()
        return alias_file(self.room_id, self.alias)


def alias_file(room_id: RoomId | None, alias: str) -> str:
    """Return the name of the file of an alias's pin."""
    # Hashed: an alias is somebody else's text, and may be longer than names of files.
    return f"alias-{blake3((room_id or b'') + alias.encode()).hexdigest(length=16)}"


class Pins:
    """The pins of a store, of all its daemons. Methods raise DiskError as the disk does."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def all(self) -> list[Pin]:
        """Return every pin, by file name."""
        with space.explained(self._places.root):
            fresh.look(self._places.pins)
            paths = sorted(self._places.pins.iterdir())
        return [pin for path in paths if (pin := _read(path)) is not None]

    def of(self, manifest_id: ManifestId) -> list[Pin]:
        """Return the pins of one model."""
        return [pin for pin in self.all() if pin.manifest_id == manifest_id]

    def put(self, pin: Pin) -> None:
        """Pin a model, or say anew what an alias means."""
        with space.explained(self._places.root):
            # Whole or not at all, whoever else writes it at this moment.
            staged = self._places.new_staging()
            with staged.open("xb") as file:
                file.write(_encode(pin))
                file.flush()
                os.fsync(file.fileno())
            staged.replace(self._places.pins / pin.file_name)

    def drop(self, pin: Pin) -> None:
        """Remove a pin, if it is there."""
        with space.explained(self._places.root):
            (self._places.pins / pin.file_name).unlink(missing_ok=True)

    def copied(self, manifest_id: ManifestId) -> None:
        """Say that a model pushed here has been kept in another place, too, or is no more."""
        self.drop(Pin(manifest_id, only_copy=True))


def _encode(pin: Pin) -> bytes:
    room_id = pin.room_id.hex() if pin.room_id else ""
    said = {"model": pin.manifest_id.hex(), "alias": pin.alias, "room_id": room_id}
    return json.dumps(
        {**said, "room": pin.room, "by": pin.by, "at": pin.at, "only": pin.only_copy}
    ).encode()


def _read(path: Path) -> Pin | None:
    try:
        data = path.read_bytes()[:STORE_PIN_MAX_BYTES]
    except FileNotFoundError:
        # Another daemon removed it just now.
        return None
    try:
        said = json.loads(data)
        room_id = said["room_id"]
        return Pin(
            ManifestId(from_hex(said["model"], "a pin's model")),
            str(said["alias"]),
            RoomId(from_hex(room_id, "a pin's room")) if room_id else None,
            str(said["room"]),
            str(said["by"]),
            float(said["at"]),
            said["only"] is True,
        )
    except (ValueError, KeyError, TypeError, DreamerError) as error:
        log.error("the pin %s can't be read (%s): remove it and pin again", path, error)
        return _by_name(path)


def _by_name(path: Path) -> Pin | None:
    """Return the pin that the name of a damaged file still tells."""
    try:
        return Pin(ManifestId(from_hex(path.stem, "a pin's model")))
    except DreamerError:
        return None
