"""Tensors and embeddings over one room's links: asked of peers, and computed for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from dreamer.daemon.inference.tensor_checks import check_embed, check_infer, check_tensor
from dreamer.daemon.inference.tensors import (
    Embedded,
    EmbedRequest,
    Inferred,
    InferRequest,
    Tensor,
)
from dreamer.daemon.links.link import Link
from dreamer.daemon.offload.payload import Payload
from dreamer.daemon.offload.payloads import Payloads
from dreamer.daemon.offload.tensor_wire import (
    TensorAnswer,
    TensorRequest,
    Values,
    answer_of,
    embed_request,
    heads,
    infer_request,
    outputs_of,
    tensors,
    texts_tensor,
)
from dreamer.daemon.offload.wire import pack, unpack
from dreamer.protocol.errors import InputError, RemoteProtocolError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.offload_limits import (
    OFFLOAD_INLINE_MAX_BYTES,
    OFFLOAD_PROGRESS_INTERVAL_S,
)

What = Literal["infer", "embed"]
Request = InferRequest | EmbedRequest
Answer = Inferred | Embedded

Compute = Callable[[ManifestId, Request], Awaitable[Answer]]
"""Runs a model of this room that is held here; raises NoMatchError when it is not."""

AskPeer = Callable[[Link, str, ManifestId, bytes], AbstractAsyncContextManager[bytes]]
"""Has a peer answer a request, and holds it to its answer until the end of the context."""


class ValueLinks:
    """Puts tensors into a message, or beside it over the lanes, and takes them out again."""

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads

    @asynccontextmanager
    async def told(self, link: Link, given: Sequence[Tensor]) -> AsyncIterator[Values]:
        """Yield what to tell the peer of tensors; it can fetch them until the end."""
        parts = [one.data for one in given]
        if sum(memoryview(part).nbytes for part in parts) <= OFFLOAD_INLINE_MAX_BYTES:
            yield Values(heads(given), b"".join(bytes(part) for part in parts))
            return
        payload = await self._payloads.offer(link, parts)
        try:
            yield Values(heads(given), b"", payload)
        finally:
            self._payloads.withdraw(link, payload)

    async def taken(self, link: Link, values: Values) -> tuple[Tensor, ...]:
        """Return the tensors that a peer told of.

        Raises:
            RemoteProtocolError: they are not what it said.
            RemoteError: they don't come.
        """
        data = values.inside
        found = tensors(values.heads, await self._fetched(link, values.payload, data))
        try:
            for one in found:
                check_tensor(one)
        except InputError as error:
            raise RemoteProtocolError(f"tensors that can't be: {error}") from error
        return found

    @asynccontextmanager
    async def patience(self, link: Link, seconds: float | None) -> AsyncIterator[None]:
        """Bound how long nothing moves; what waits for a slow line is not left for another node.

        Raises:
            TimeoutError: nothing moved for so long.
        """
        async with asyncio.timeout(seconds) as bound:
            if seconds is None:
                yield
                return
            watching = asyncio.create_task(self._watch(link, seconds, bound))
            try:
                yield
            finally:
                watching.cancel()

    async def _watch(self, link: Link, seconds: float, bound: asyncio.Timeout) -> None:
        seen: int | None = None
        while not bound.expired():
            moved = self._payloads.progress(link)
            if moved is not None and moved != seen:
                bound.reschedule(asyncio.get_running_loop().time() + seconds)
            seen = moved
            await asyncio.sleep(OFFLOAD_PROGRESS_INTERVAL_S)

    async def _fetched(
        self, link: Link, payload: Payload | None, inside: bytes
    ) -> memoryview | bytes:
        return inside if payload is None else await self._payloads.fetch(link, payload)


@dataclass(frozen=True)
class TensorAsking:
    """Asks peers of one room."""

    values: ValueLinks
    ask: AskPeer

    async def run(
        self,
        link: Link,
        manifest_id: ManifestId,
        request: Request,
        patience_s: float | None = None,
    ) -> Answer:
        """Return the peer's answer.

        Raises:
            TimeoutError: nothing came of it for ``patience_s``; what moves over a lane is
                something, however long it takes.
            InputError: the request can't be used there or elsewhere, or is too large to be asked.
            RemoteError: the peer is gone, silent, or can't.
            ForbiddenError: the peer does not run models for us.
        """
        if isinstance(request, InferRequest):
            what, given = "infer", request.inputs
        else:
            what, given = "embed", (texts_tensor(request),)
        async with self.values.patience(link, patience_s), self.values.told(link, given) as values:
            data = pack(_asked(request, values))
            async with self.ask(link, what, manifest_id, data) as answered:
                told = unpack(TensorAnswer, answered)
                return answer_of(what, told, await self.values.taken(link, told.values))


@dataclass(frozen=True)
class TensorServing:
    """Computes for the peers of one room."""

    values: ValueLinks
    compute: Compute

    @asynccontextmanager
    async def answered(
        self, link: Link, what: str, manifest_id: ManifestId, data: bytes
    ) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield the answer to a request, and whether something is still to be fetched.

        It can be fetched until the end of the context.
        """
        asked = unpack(TensorRequest, data)
        given = await self.values.taken(link, asked.values)
        request: Request
        if what == "infer":
            request = infer_request(asked, given)
            check_infer(request)
        else:
            request = embed_request(asked, given)
            check_embed(request)
        answer = await self.compute(manifest_id, request)
        async with self.values.told(link, outputs_of(answer)) as values:
            tokens = answer.prompt_tokens if isinstance(answer, Embedded) else 0
            times = answer.queue_s, answer.load_s, answer.compute_s
            yield pack(TensorAnswer(values, tokens, *times)), values.payload is not None


def _asked(request: Request, values: Values) -> TensorRequest:
    if isinstance(request, InferRequest):
        return TensorRequest(values, request.outputs)
    return TensorRequest(values, (), request.truncate, request.dimensions)
