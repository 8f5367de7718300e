"""The models that requests may name, each with what its room and its own files say of it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from dreamer.daemon.ports import Node
from dreamer.daemon.rest.ollama import names, recipe
from dreamer.daemon.rest.ollama.details import Description, describe
from dreamer.daemon.rest.ollama.names import Found
from dreamer.daemon.rest.ollama.recipe import Recipe
from dreamer.daemon.surfaces.catalogue import ModelInfo
from dreamer.daemon.surfaces.inference import Servable
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import OLLAMA_DESCRIPTIONS_KEPT

_NOTHING = Description()


@dataclass(frozen=True)
class Shown:
    """A model by one of its names."""

    name: str
    servable: Servable
    description: Description


class Shelf:
    """Finds models. What a model's files say is kept by its id, since it can't change."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._described: OrderedDict[str, Description] = OrderedDict()

    async def find(self, model: str) -> Found:
        """Return what a name means; raises as ``names.find``."""
        return await names.find(self._node.inference, model)

    async def all(self) -> list[Shown]:
        """Return every model by each of its names, the newest first."""
        infos = {one.manifest_id: one for one in await self._node.models(None)}
        told = names.told(await self._node.inference.servables())
        return [
            Shown(name, one, await self._listed_by(infos.get(one.manifest_id)))
            for name, one in told
        ]

    async def info(self, servable: Servable) -> ModelInfo | None:
        """Return what the room's registry says of a model; None if it went away meanwhile."""
        infos = await self._node.models(servable.room)
        return next((one for one in infos if one.manifest_id == servable.manifest_id), None)

    async def describe(self, servable: Servable) -> Description:
        """Return what a model says of itself, nothing if it is not here."""
        if (kept := self._described.get(servable.manifest_id)) is not None:
            return kept
        return await self._described_by(await self.info(servable)) if servable.here else _NOTHING

    async def recipe(self, servable: Servable) -> Recipe:
        """Return how a model is to be asked.

        Raises:
            InputError: it has a recipe, which is not on this node.
        """
        if recipe.TAG in servable.tags and not servable.here:
            raise InputError(
                f"{servable.name} has a system prompt or parameters in its files: pull it first"
            )
        return (await self.describe(servable)).recipe

    async def _listed_by(self, info: ModelInfo | None) -> Description:
        try:
            return await self._described_by(info)
        except InputError:
            # One model with a recipe that can't be read spoils no list: whoever asks it is told.
            return _NOTHING

    async def _described_by(self, info: ModelInfo | None) -> Description:
        if info is None or not info.local or info.path is None:
            return _NOTHING
        if (kept := self._described.get(info.manifest_id)) is None:
            kept = await asyncio.to_thread(describe, Path(info.path))
            self._described[info.manifest_id] = kept
        self._described.move_to_end(info.manifest_id)
        while len(self._described) > OLLAMA_DESCRIPTIONS_KEPT:
            self._described.popitem(last=False)
        return kept
