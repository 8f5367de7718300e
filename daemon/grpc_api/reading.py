"""How much may be on its way in: a message is whole in memory before anything of it is known.

gRPC receives no more of a call than its window until the call's message is read. So methods take
their requests as streams and read them here, so many at a time; further calls wait with theirs
unread. A stream of inferences may be idle before its next message, so of those only so many stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from dreamer.protocol.errors import BusyError, InputError
from dreamer.protocol.inference_limits import (
    GRPC_READ_TIMEOUT_S,
    GRPC_READS_MAX,
    GRPC_RETRY_S,
    GRPC_STREAMS_MAX,
)


class Reading:
    """The messages that are being received: together at most
    ``(2 * GRPC_READS_MAX + GRPC_STREAMS_MAX) * OIP_BODY_MAX_BYTES``.
    """

    def __init__(
        self,
        reads: int = GRPC_READS_MAX,
        streams: int = GRPC_STREAMS_MAX,
        timeout_s: float = GRPC_READ_TIMEOUT_S,
    ) -> None:
        self._of_tensors = asyncio.Semaphore(reads)
        # Apart, so that nobody who sends tensors slowly keeps the node from being asked how it is.
        self._of_others = asyncio.Semaphore(reads)
        self._streams_left = streams
        self._timeout_s = timeout_s

    async def only(self, requests: AsyncIterator[Any], *, tensors: bool) -> Any:
        """Return the one message of a call, when it is its turn.

        Raises:
            InputError: there is none, or it doesn't come.
        """
        async with self._of_tensors if tensors else self._of_others:
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await anext(requests)
            except StopAsyncIteration:
                raise InputError("the call has no message") from None
            except TimeoutError:
                raise InputError(
                    f"the message did not come within {self._timeout_s:g} s: send it at once"
                ) from None

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Have a stream of messages stand as long as the context.

        Raises:
            BusyError: as many stand as may.
        """
        if self._streams_left <= 0:
            raise BusyError(
                "as many streams of inferences stand as may: end one, or ask by ModelInfer",
                GRPC_RETRY_S,
            )
        self._streams_left -= 1
        try:
            yield
        finally:
            self._streams_left += 1
