"""The list of models in OpenAI's form."""

from __future__ import annotations

from collections.abc import Iterable

from dreamer.daemon.surfaces.inference import Servable
from dreamer.protocol.canonical import Json


def model_json(model_id: str, model: Servable) -> Json:
    """Return one model by the name ``model_id``; ``dreamer`` has what OpenAI has no word for."""
    return {
        "id": model_id,
        "object": "model",
        "created": int(model.created_at),
        "owned_by": model.room,
        "dreamer": {
            "manifest_id": model.manifest_id,
            "name": model.name,
            "type": model.type,
            "size_bytes": model.size_bytes,
            "here": model.here,
        },
    }


def model_list(models: Iterable[Servable]) -> Json:
    """Return the models by every alias, and those that have none by name.

    What means one model in one room and another in the next is told apart as ``alias@room``.
    """
    named: dict[str, list[Servable]] = {}
    for model in models:
        for name in model.aliases or (model.name,):
            named.setdefault(name, []).append(model)
    data = [
        model_json(model_id, model)
        for name, found in named.items()
        for model_id, model in _told_apart(name, found).items()
    ]
    return {"object": "list", "data": data}


def _told_apart(name: str, models: list[Servable]) -> dict[str, Servable]:
    if len({one.manifest_id for one in models}) == 1:
        return {name: models[0]}
    apart: dict[str, Servable] = {}
    for one in models:
        # The newest of a room's models of the same name keeps it, the others go by their ids.
        room_name = f"{name}@{one.room}"
        apart[one.manifest_id if room_name in apart else room_name] = one
    return apart
