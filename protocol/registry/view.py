"""What a registry says once it has been verified: the only form that the rest of a node reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.registry.document import Document
from dreamer.protocol.registry.records import Record
from dreamer.protocol.registry.reports import Report
from dreamer.protocol.registry.statements import AliasMove, PublicTorrent


@dataclass(frozen=True)
class Model:
    """One model of a room; ``aliases`` and ``tags`` in alphabetical order, ``at`` in seconds."""

    manifest_id: ManifestId
    name: str
    size_bytes: int
    files: int
    model_type: str
    published_by: NodeId
    at: float
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    torrent: PublicTorrent | None = None


@dataclass(frozen=True)
class Registry:
    """A room's models by id, its aliases, and who moved each alias when (oldest first).

    ``history`` also holds aliases that were removed; ``aliases`` only those that mean a model.
    """

    models: Mapping[ManifestId, Model] = field(default_factory=dict)
    aliases: Mapping[str, ManifestId] = field(default_factory=dict)
    history: Mapping[str, tuple[Record[AliasMove], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Verified:
    """A document, what is to be believed of it, and what was ignored.

    ``serial`` is the highest serial that a member signed, whatever the document itself claims;
    ``last_serial`` the highest plausible one of any record, believed or not: a change takes the
    next.
    """

    document: Document
    registry: Registry
    serial: int
    last_serial: int
    reports: tuple[Report, ...] = ()
