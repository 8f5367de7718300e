"""What a room's registry tells people: its models, who moved which alias, what came of what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class CachedOn:
    """A node that reported to have a model whole; ``serves`` it to others; ``name`` if known."""

    node_id: str
    name: str
    serves: bool


@dataclass(frozen=True)
class ModelInfo:
    """One model as the registry and this node's store see it. Times are seconds since the epoch.

    ``magnet``, and ``magnet_v1`` for older clients, are empty unless the model is public;
    ``origin`` is None unless it was uploaded there. ``on_nodes`` counts who has it or fetches it
    now, ``cached_on`` who reported to have it. ``parents`` are the ids that it was trained from.
    """

    manifest_id: str
    short_id: str
    room: str
    name: str
    size_bytes: int
    files: int
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    published_by: str
    at: float
    local: bool
    path: str | None
    on_nodes: int
    magnet: str = ""
    magnet_v1: str = ""
    model_type: str = ""
    notes: str = ""
    trained_by: str = ""
    trained_at: float | None = None
    parents: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    config: dict[str, str | int | float | bool] = field(default_factory=dict)
    origin: str | None = None
    cached_on: tuple[CachedOn, ...] = ()
    expires_at: float | None = None


@dataclass(frozen=True)
class AliasMoveInfo:
    """One move of an alias. Models by their ids in hex, None for nothing; ``at`` epoch seconds.

    ``by_name`` is empty when nobody here knows the node's name.
    """

    at: float
    by: str
    by_name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class AliasInfo:
    """An alias: what it means now, who may move it (empty: any publisher), its moves in order."""

    alias: str
    room: str
    manifest_id: str | None
    protected_to: tuple[str, ...]
    moves: tuple[AliasMoveInfo, ...]


@dataclass(frozen=True)
class KinInfo:
    """A model's relative, ``depth`` generations away, through ``of`` (ids in hex).

    ``name`` and ``aliases`` are empty when the room has no entry of it (any more).
    """

    manifest_id: str
    short_id: str
    of: str
    depth: int
    name: str
    aliases: tuple[str, ...]
    metrics: dict[str, float]


@dataclass(frozen=True)
class LineageInfo:
    """What a model was trained from, and what came of it; ``cut``: there were more than listed."""

    manifest_id: str
    short_id: str
    name: str
    room: str
    ancestors: tuple[KinInfo, ...]
    descendants: tuple[KinInfo, ...]
    cut: bool


@dataclass(frozen=True)
class ModelList:
    """The models that a query means, as they are now; one event of ``watch``."""

    models: tuple[ModelInfo, ...]


class Catalogue(Protocol):
    """The registries of a node's rooms. Every call raises a DreamerError on failure."""

    def watch(self, room: str | None, query: str) -> AsyncIterator[ModelList]:
        """Yield the models that a query means, at once and whenever that changes."""
        ...

    async def show(self, room: str | None, ref: str) -> ModelInfo:
        """Return one model."""
        ...

    async def alias(self, room: str | None, alias: str) -> AliasInfo:
        """Return an alias and its history."""
        ...

    async def aliases(self, room: str | None) -> list[AliasInfo]:
        """Return every alias of a room, those that were removed too."""
        ...

    async def promote(self, room: str | None, source: str, target: str) -> AliasInfo:
        """Make the alias ``target`` mean what ``source`` means, unless either moved meanwhile."""
        ...

    async def protect(self, room: str | None, alias: str, roles: list[str]) -> AliasInfo:
        """Let only these roles move an alias; no roles end its protection. For admins."""
        ...

    async def lineage(self, room: str | None, ref: str) -> LineageInfo:
        """Return what a model was trained from and what came of it."""
        ...

    async def note(self, room: str | None, ref: str, notes: str) -> ModelInfo:
        """Replace a model's notes."""
        ...

    async def withdraw(self, room: str | None, ref: str) -> str:
        """Take a model out of the room's registry; return its id. Copies stay where they are."""
        ...
