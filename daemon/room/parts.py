"""What a node lends to each of its rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import aiohttp

from dreamer.daemon.direct.endpoint import DirectEndpoint
from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.links.attempt import TransportPort
from dreamer.daemon.links.ice import IceSettings
from dreamer.daemon.room.bucket_documents import BlockingDocument
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.pace import Pace
from dreamer.daemon.sharing.serving import BlockPlaces
from dreamer.daemon.state import State
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.canonical import Json
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.limits import LINKS_MESH_MIN
from dreamer.protocol.rooms.card import RoomCard


@dataclass(frozen=True)
class RoomParts:
    """What a node lends to each of its rooms."""

    identity: NodeIdentity
    http: aiohttp.ClientSession
    transport: TransportPort
    state: State
    places: BlockPlaces
    library: Library
    ice: IceSettings
    capabilities: Callable[[], Json]
    damaged: Callable[[ManifestId], None]
    numbers: Iterator[int]
    rng: Random
    tasks: TaskSet
    mesh_links: int = LINKS_MESH_MIN
    pace: Pace = field(default_factory=Pace)
    direct: DirectEndpoint | None = None
    """Where direct connections come in; None: this node makes none."""
    registry_at: Callable[[RoomCard], BlockingDocument] | None = None
    """Returns the registry of a room that keeps it at its origin."""
