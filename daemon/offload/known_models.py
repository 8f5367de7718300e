"""What the pool hears of the models that are here: that there are some, and their names."""

from __future__ import annotations

import time
from dataclasses import dataclass

from dreamer.daemon.inference.pool.pool import Pool
from dreamer.daemon.room.keeper import RoomKeeper
from dreamer.daemon.sharing.library import Library
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.ids import ManifestId, RoomId, from_hex

GRAPH_SUFFIX = ".onnx"


@dataclass(frozen=True)
class KnownModels:
    """Watches the library of a node for its pool, and knows the rooms' names of models."""

    pool: Pool
    library: Library
    rooms: RoomKeeper

    def begin(self) -> None:
        """Have the pool started ahead once there is a model that it may be asked for."""
        self.pool.name_models(self.names_of)
        self.library.listen(self._gained)

    def names_of(self, manifest_id: str) -> tuple[str, ...]:
        """Return a model's name and aliases in all rooms, as their registries were last read."""
        wanted = ManifestId(from_hex(manifest_id, "a model's id"))
        names: list[str] = []
        for session in self.rooms.sessions:
            if (document := session.registry_known()) is None:
                continue
            if (model := document.as_of(time.time()).models.get(wanted)) is not None:
                names += [model.name, *model.aliases]
        return tuple(names)

    def _gained(self, room: RoomId, manifest_id: ManifestId, blocks: int) -> None:
        found = self.library.find(room, manifest_id) if blocks else None
        if found is not None and has_graph(found.manifest):
            self.pool.keep_spares()


def has_graph(manifest: Manifest) -> bool:
    """Say whether a model could be run at all."""
    return any(entry.path.endswith(GRAPH_SUFFIX) for entry in manifest.files)
