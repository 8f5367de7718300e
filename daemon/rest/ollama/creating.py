"""Handlers of ``/api/create`` and ``/api/blobs``: an import or a change, and then a push."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from aiohttp import web

from dreamer.daemon.ports import Node
from dreamer.daemon.rest.guard import takes
from dreamer.daemon.rest.ollama import plan, recipe
from dreamer.daemon.rest.ollama.blobs import Blobs
from dreamer.daemon.rest.ollama.building import check_template, link_files, write_changes
from dreamer.daemon.rest.ollama.fields import read_fields
from dreamer.daemon.rest.ollama.importing import import_steps
from dreamer.daemon.rest.ollama.lines import answer
from dreamer.daemon.rest.ollama.moving import told_push
from dreamer.daemon.rest.ollama.plan import Gguf, Plan
from dreamer.daemon.rest.ollama.recipe import Recipe
from dreamer.daemon.rest.ollama.shelf import Shelf
from dreamer.daemon.surfaces.inference import Servable
from dreamer.daemon.surfaces.pushing import PushRequest
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import DiskError, InputError

CREATED: Json = {"status": "success"}


class CreatingHandlers:
    """The handlers, on one node; uploads are kept below ``blobs``."""

    def __init__(self, node: Node, shelf: Shelf, blobs: Path) -> None:
        self._node = node
        self._shelf = shelf
        self._blobs = Blobs(blobs)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.post("/api/create", self.create),
            web.head("/api/blobs/{digest}", self.has_blob),
            web.post("/api/blobs/{digest}", self.put_blob),
        ]

    async def has_blob(self, request: web.Request) -> web.Response:
        """``HEAD /api/blobs/{digest}``."""
        found = await self._blobs.has(request.match_info["digest"])
        return web.Response(status=200 if found else 404)

    # The PyPI client says JSON of whatever it uploads, curl -T says nothing.
    @takes("application/octet-stream", "application/json")
    async def put_blob(self, request: web.Request) -> web.Response:
        """``POST /api/blobs/{digest}``: the body is the file."""
        digest = request.match_info["digest"]
        if await self._blobs.has(digest):
            # Read all the same: a client that is cut off while it sends takes that for a failure.
            async for _ in request.content.iter_any():
                pass
            return web.Response(status=200)
        await self._blobs.put(digest, request.content.iter_any(), request.content_length or 0)
        return web.Response(status=201)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/create``."""
        fields = await read_fields(request)
        wanted = plan.parse(fields)
        if wanted.template:
            await asyncio.to_thread(check_template, wanted.template)
        stream = fields.flag("stream", True)
        if wanted.gguf is not None:
            blob = await self._blobs.path(wanted.gguf.digest)
            return await answer(request, self._import(wanted, wanted.gguf, blob), stream)
        base = (await self._shelf.find(wanted.base)).servable
        return await answer(request, self._change(wanted, base), stream)

    async def _import(self, wanted: Plan, gguf: Gguf, blob: Path) -> AsyncGenerator[Json, None]:
        yield {"status": "parsing GGUF"}
        async with self._blobs.workspace() as work:
            # Under its own name, which goes into the model's NOTICE.
            source, made = work / gguf.name, work / "model"
            await asyncio.to_thread(os.link, blob, source)
            async with aclosing(import_steps(source, made)) as steps:
                async for done, total in steps:
                    yield {"status": "converting model", "completed": done, "total": total}
            async with aclosing(self._publish(wanted, made, wanted.recipe)) as lines:
                async for line in lines:
                    yield line

    async def _change(self, wanted: Plan, base: Servable) -> AsyncGenerator[Json, None]:
        yield {"status": "reading model metadata"}
        info = await self._shelf.info(base)
        if info is None or not info.local or info.path is None:
            raise InputError(f"{base.name} is not on this node: pull it first")
        if not (wanted.recipe or wanted.template or wanted.licences):
            # Nothing is new but the name, and a second entry of the same content can't be.
            await self._node.set_alias(wanted.room or base.room, wanted.alias, base.manifest_id)
            yield {"status": "writing manifest"}
            yield CREATED
            return
        async with self._blobs.workspace() as work:
            made = work / "model"
            try:
                await asyncio.to_thread(link_files, Path(info.path), made)
            except OSError as error:
                raise _disk_error(error) from error
            changed = wanted.on((await self._shelf.describe(base)).recipe)
            async with aclosing(self._publish(wanted, made, changed, base.room)) as lines:
                async for line in lines:
                    yield line

    async def _publish(
        self, wanted: Plan, made: Path, how: Recipe, room: str | None = None
    ) -> AsyncGenerator[Json, None]:
        """Write what is new into the directory, and push it under its name."""
        yield {"status": "creating system layer" if how.system else "creating model layer"}
        try:
            await asyncio.to_thread(write_changes, made, how, wanted.template, wanted.licences)
        except OSError as error:
            raise _disk_error(error) from error
        request = PushRequest(
            made,
            aliases=(wanted.alias,),
            tags=(recipe.TAG,) if how else (),
            name=wanted.name,
            # The model is there as soon as it is published; its upload needs nobody to wait.
            wait="no",
        )
        # Without a room, the node says so itself, or which ones there are.
        async with aclosing(told_push(self._node.push(wanted.room or room, request))) as lines:
            async for line in lines:
                yield line


def _disk_error(error: OSError) -> DiskError:
    reason = error.strerror or str(error)
    return DiskError(f"can't make the model's directory: {reason}", "mend that and try again")
