"""What a model was trained from, and what came of it, as far as the room's entries say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.view import Model, Registry
from dreamer.protocol.registry_limits import LINEAGE_MAX_MODELS


@dataclass(frozen=True)
class Kin:
    """A relative: ``depth`` generations away; ``of`` is the relative through which it is one.

    ``model`` is None when the room has no entry of it: withdrawn, expired, or never published.
    """

    manifest_id: ManifestId
    of: ManifestId
    depth: int
    model: Model | None


@dataclass(frozen=True)
class Lineage:
    """Both directions, each the nearest generation first; ``cut`` if there were too many."""

    model: Model
    ancestors: tuple[Kin, ...]
    descendants: tuple[Kin, ...]
    cut: bool


def lineage(registry: Registry, model: Model) -> Lineage:
    """Return the relatives of a model. Entries may name each other in a circle: each counts once.

    Shape: at most LINEAGE_MAX_MODELS in either direction.
    """
    children: dict[ManifestId, list[ManifestId]] = {}
    for key in sorted(registry.models):
        for parent in registry.models[key].parents:
            children.setdefault(parent, []).append(key)

    def parents_of(key: ManifestId) -> Iterable[ManifestId]:
        found = registry.models.get(key)
        return found.parents if found else ()

    up, cut_above = _walk(registry.models, model.manifest_id, parents_of)
    down, cut_below = _walk(registry.models, model.manifest_id, lambda key: children.get(key, ()))
    return Lineage(model, up, down, cut_above or cut_below)


def _walk(
    models: Mapping[ManifestId, Model],
    start: ManifestId,
    next_of: Callable[[ManifestId], Iterable[ManifestId]],
) -> tuple[tuple[Kin, ...], bool]:
    """Return all that can be reached, breadth first, and whether the bound cut it short."""
    seen = {start}
    found: list[Kin] = []
    # Read while it grows: what is found is asked in its turn.
    generation = [(start, 0)]
    for key, depth in generation:
        for relative in next_of(key):
            if relative in seen:
                continue
            if len(found) == LINEAGE_MAX_MODELS:
                return tuple(found), True
            seen.add(relative)
            found.append(Kin(relative, key, depth + 1, models.get(relative)))
            generation.append((relative, depth + 1))
    return tuple(found), False
