"""Handlers of what there is: ``/api/tags``, ``/api/ps``, ``/api/show``, copies, deletion."""

from __future__ import annotations

import math
import time

from aiohttp import web

from dreamer.daemon.ports import Node
from dreamer.daemon.rest.ollama import names
from dreamer.daemon.rest.ollama.fields import model_of, read_fields
from dreamer.daemon.rest.ollama.lines import moment
from dreamer.daemon.rest.ollama.modelfile import modelfile, parameter_lines
from dreamer.daemon.rest.ollama.removing import remove
from dreamer.daemon.rest.ollama.shelf import Shelf, Shown
from dreamer.daemon.surfaces.inference import ModelStatistics, Servable
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import ForbiddenError, InputError
from dreamer.protocol.inference_limits import OLLAMA_FOREVER_S

_BY_TYPE = {"decoder": "completion", "embed": "embedding"}
"""What models can be asked for, by a word in the type that their room gives them."""


class LibraryHandlers:
    """The handlers, on one node."""

    def __init__(self, node: Node, shelf: Shelf) -> None:
        self._node = node
        self._shelf = shelf

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/api/tags", self.tags),
            web.get("/api/ps", self.ps),
            web.post("/api/show", self.show),
            web.post("/api/copy", self.copy),
            web.delete("/api/delete", self.delete),
        ]

    async def tags(self, request: web.Request) -> web.Response:
        """``GET /api/tags``: every model of the rooms that can be run, by each of its names."""
        return web.json_response({"models": [_listed(one) for one in await self._shelf.all()]})

    async def ps(self, request: web.Request) -> web.Response:
        """``GET /api/ps``: the models in this node's memory."""
        loaded = [one for one in self._node.inference.statistics() if one.workers]
        by_id = {one.servable.manifest_id: one for one in reversed(await self._shelf.all())}
        return web.json_response(
            {"models": [_running(one, by_id.get(one.manifest_id)) for one in loaded]}
        )

    async def show(self, request: web.Request) -> web.Response:
        """``POST /api/show``."""
        asked = model_of(await read_fields(request))
        found = await self._shelf.find(asked)
        described = await self._shelf.describe(found.servable)
        told: Json = {
            "modelfile": modelfile(asked, described),
            "parameters": parameter_lines(described.recipe.parameters),
            "template": described.template,
            "details": described.details(),
            "model_info": described.model_info(),
            "capabilities": list(described.capabilities) or _capabilities(found.servable),
            "modified_at": moment(found.servable.created_at),
        }
        if described.recipe.system:
            told["system"] = described.recipe.system
        if described.licence:
            told["license"] = described.licence
        return web.json_response(told)

    async def copy(self, request: web.Request) -> web.Response:
        """``POST /api/copy``: another alias in the room where the model is."""
        fields = await read_fields(request)
        source, destination = fields.text("source"), names.parse(fields.text("destination"))
        servable = (await self._shelf.find(source)).servable
        if destination.room not in ("", servable.room):
            raise InputError(
                f"{source!r:.80} is in room {servable.room}, and its copies are as well: leave "
                f"@{destination.room} out, or push it there"
            )
        alias = names.new_alias(destination.said)
        await self._node.set_alias(servable.room, alias, servable.manifest_id)
        return web.Response()

    async def delete(self, request: web.Request) -> web.Response:
        """``DELETE /api/delete``."""
        found = await self._shelf.find(model_of(await read_fields(request)))
        if not await remove(self._node, self._shelf, found):
            raise ForbiddenError(
                f"{found.servable.name} is not on this node, and its name is not this node's: "
                "nothing is removed. 'dreamer alias rm' takes a name from the whole room"
            )
        return web.Response()


def _listed(one: Shown) -> Json:
    return {
        "name": one.name,
        "model": one.name,
        "modified_at": moment(one.servable.created_at),
        "size": one.servable.size_bytes,
        "digest": one.servable.manifest_id,
        "details": one.description.details(),
    }


def _capabilities(one: Servable) -> list[str]:
    """Return what a model that is elsewhere can be asked for, by the type its room gives it."""
    return [can for word, can in _BY_TYPE.items() if word in one.type]


def _running(loaded: ModelStatistics, shown: Shown | None) -> Json:
    # A model of a room that this node has left may still be loaded.
    name = shown.name if shown else f"{loaded.name}:{names.LATEST}"
    vram = sum(worker.gpu_memory_bytes for worker in loaded.workers)
    expires_at = loaded.expires_at
    if expires_at is None or not math.isfinite(expires_at):
        # To stay for ever has no date of its own in Ollama's API, either.
        expires_at = time.time() + OLLAMA_FOREVER_S
    return {
        "name": name,
        "model": name,
        "size": loaded.memory_bytes + vram,
        "size_vram": vram,
        "digest": loaded.manifest_id,
        "details": shown.description.details() if shown else {},
        "expires_at": moment(expires_at),
        "context_length": loaded.context,
    }
