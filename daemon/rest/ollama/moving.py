"""Handlers of ``/api/pull`` and ``/api/push``: this node's own, told in Ollama's lines."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from aiohttp import web

from dreamer.daemon.ports import Node, Progress, PullEvent, PullReceipt, PushEvent, PushReceipt
from dreamer.daemon.rest.json_form import to_json
from dreamer.daemon.rest.ollama import names
from dreamer.daemon.rest.ollama.fields import model_of, read_fields
from dreamer.daemon.rest.ollama.lines import answer, closing
from dreamer.daemon.rest.ollama.shelf import Shelf
from dreamer.daemon.surfaces.catalogue import ModelInfo
from dreamer.daemon.surfaces.inference import Servable
from dreamer.daemon.surfaces.pushing import PushRequest
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError, LocalProtocolError, NoMatchError

_SHOWN_DIGITS = 12


class MovingHandlers:
    """The handlers, on one node."""

    def __init__(self, node: Node, shelf: Shelf) -> None:
        self._node = node
        self._shelf = shelf

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.post("/api/pull", self.pull), web.post("/api/push", self.push)]

    async def pull(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/pull``: a model of this node's rooms, from peers first."""
        fields = await read_fields(request)
        servable = (await self._shelf.find(model_of(fields))).servable
        events = self._node.pull(servable.manifest_id, servable.room, None)
        lines = told_pull(events, servable.manifest_id)
        return await answer(request, lines, fields.flag("stream", True))

    async def push(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/push``: a model that is here, to its room or to the one that is named."""
        fields = await read_fields(request)
        room, wanted = await self._to_push(model_of(fields))
        lines = told_push(self._node.push(room, wanted))
        return await answer(request, lines, fields.flag("stream", True))

    async def _to_push(self, model: str) -> tuple[str, PushRequest]:
        """Return what a push publishes, and where; with ``@room``, of whichever room has it."""
        room = names.parse(model).room
        try:
            servable = (await self._shelf.find(model)).servable
        except NoMatchError:
            if not room:
                raise
            servable = (await self._shelf.find(names.parse(model).said)).servable
        info = await self._shelf.info(servable)
        if info is None or not info.local or info.path is None:
            raise InputError(f"{servable.name} is not on this node: pull it first")
        return room or servable.room, _published(model, servable, info, room)


def _published(model: str, servable: Servable, info: ModelInfo, room: str) -> PushRequest:
    """Return the push of a model as it is published already; in a new room with its name there."""
    assert info.path is not None, "it is here"
    new_room = room not in ("", servable.room)
    return PushRequest(
        Path(info.path),
        aliases=(names.new_alias(names.parse(model).said),) if new_room else (),
        tags=servable.tags if new_room else (),
        name=servable.name,
        # What came in as a model, here or elsewhere, was allowed then.
        allow_pickle=True,
        public=bool(info.magnet) and not new_room,
    )


async def told_pull(
    events: AsyncIterator[PullEvent], manifest_id: str
) -> AsyncGenerator[Json, None]:
    """Yield a line for each event of a pull, and last ``success``."""
    yield {"status": "pulling manifest"}
    last: PullEvent | None = None
    async with closing(events):
        async for last in events:
            if isinstance(last, Progress) and (line := _pull_line(last, manifest_id)):
                yield line
    if isinstance(last, PullReceipt):
        # However fast it was: a client's bar ends at its end.
        size = last.size_bytes
        yield _counted(_pulling(manifest_id), Progress("fetch", size, size), manifest_id)
    yield {"status": "writing manifest"}
    yield success(last)


def _pulling(manifest_id: str) -> str:
    return f"pulling {manifest_id[:_SHOWN_DIGITS]}"


def _pull_line(progress: Progress, manifest_id: str) -> Json | None:
    match progress.phase:
        case "fetch":
            return _counted(_pulling(manifest_id), progress, manifest_id)
        case "verify":
            return _counted("verifying blake3 digest", progress, manifest_id)
        case "paused":
            return {"status": f"paused: {progress.note}"}
        case _:
            return None


async def told_push(events: AsyncIterator[PushEvent]) -> AsyncGenerator[Json, None]:
    """Yield a line for each event of a push, and last ``success``.

    An origin that is away is no failure: the model is published, and its upload goes on by itself.
    """
    yield {"status": "retrieving manifest"}
    last: PushEvent | None = None
    async with closing(events):
        async for last in events:
            if isinstance(last, Progress):
                yield _push_line(last)
    if isinstance(last, PushReceipt) and last.origin_state == "queued":
        why = last.origin_error or "it goes on in the background"
        yield {"status": f"published; the upload to the room's origin is queued: {why}"}
    yield success(last)


def success(last: PullEvent | PushEvent | None) -> Json:
    """Return the last line of long work; beside what Ollama has, the receipt.

    Raises:
        LocalProtocolError: the work ended without one.
    """
    if last is None or isinstance(last, Progress):
        raise LocalProtocolError("the daemon ended its work without a receipt: see its log")
    return {"status": "success", "receipt": to_json(last)}


def _push_line(progress: Progress) -> Json:
    match progress.phase:
        case "hash":
            return _counted("hashing files", progress)
        case "publish":
            return {"status": "pushing manifest"}
        case "upload":
            return _counted("pushing files", progress)
        case phase:
            return _counted(phase, progress)


def _counted(status: str, progress: Progress, manifest_id: str = "") -> Json:
    """Return a line with bytes, of which clients make a bar for each digest."""
    line: Json = {"status": status}
    if manifest_id:
        line["digest"] = f"blake3:{manifest_id}"
    if progress.total:
        line["total"] = progress.total
        # Ollama leaves it out before the first byte.
        line.update({"completed": progress.done} if progress.done else {})
    return line
