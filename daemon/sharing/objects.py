"""Fetches manifests and outboards, small objects named by their hash, from linked members."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from blake3 import blake3

from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.transport.vocabulary import ServeFailed
from dreamer.protocol.errors import RemoteError, RemoteProtocolError
from dreamer.protocol.ids import Digest, short
from dreamer.protocol.limits import CHUNK_BYTES, OBJECT_TIMEOUT_S
from dreamer.protocol.link.messages import GetObject, Message, ObjectPiece, Refuse

log = logging.getLogger(__name__)


class ObjectFetcher(LinkListener):
    """One room's objects; a listener of its links. ``numbers`` is the node's request counter."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self._waiting: dict[tuple[int, int], asyncio.Future[ObjectPiece]] = {}

    async def fetch(self, link: Link, digest: Digest, max_bytes: int) -> bytes:
        """Return the object with this hash from one member.

        Raises:
            RemoteError: the member does not have it, is too slow, or is gone.
            RemoteProtocolError: what it sent is not that object.
        """
        piece = await self._piece(link, digest, 0)
        total = piece.total
        data = bytearray(piece.data)
        while piece.data and len(data) < total <= max_bytes:
            piece = await self._piece(link, digest, len(data))
            # Small pieces would let a member keep us waiting for days.
            fits = len(piece.data) >= min(CHUNK_BYTES, total - len(data))
            if not fits or piece.total != total or piece.offset != len(data):
                raise RemoteProtocolError(f"{short(link.peer)} sent pieces that don't fit")
            data += piece.data
        if blake3(data).digest() != digest:
            raise RemoteProtocolError(f"{short(link.peer)} sent another object than it was asked")
        return bytes(data)

    async def _piece(self, link: Link, digest: Digest, offset: int) -> ObjectPiece:
        key = (link.number, next(self._numbers))
        future: asyncio.Future[ObjectPiece] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        link.send(GetObject(key[1], digest, offset))
        try:
            async with asyncio.timeout(OBJECT_TIMEOUT_S):
                return await future
        except TimeoutError:
            raise RemoteError(f"{short(link.peer)} did not answer in time") from None
        finally:
            del self._waiting[key]

    def uses(self, link: Link) -> bool:
        """Return whether an object of the member is on its way."""
        return any(number == link.number for number, _ in self._waiting)

    def link_down(self, link: Link, reason: str) -> None:
        """Fail what the member was asked for."""
        for (number, _), future in self._waiting.items():
            if number == link.number and not future.done():
                future.set_exception(RemoteError(f"lost the link to {short(link.peer)}"))

    def message(self, link: Link, message: Message) -> None:
        """Take an answer."""
        if not isinstance(message, ObjectPiece | Refuse):
            return
        future = self._waiting.get((link.number, message.request))
        if future is None or future.done():
            return
        if isinstance(message, ObjectPiece):
            future.set_result(message)
        else:
            future.set_exception(RemoteError(f"{short(link.peer)}: {message.reason[:200]}"))

    def serve_ended(self, link: Link, request: int, failed: ServeFailed | None) -> None:
        """Not ours."""
