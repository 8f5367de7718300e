"""A streamed answer to a client that may go away, or stop reading while it stays.

Who reads nothing would hold a model's slot for ever: the buffers between fill up, and the stream
waits for them. After a while its connection is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

from dreamer.protocol.limits import KIB, REST_STALLED_CLIENT_TIMEOUT_S

_AT_ONCE_BYTES = 32 * KIB
"""Half of what asyncio's transports hold before they make a writer wait."""


class Outgoing:
    """The answer on its way."""

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        self._request = request
        self.response = response

    async def write(self, data: bytes | memoryview) -> None:
        """Send ``data`` at once.

        Raises:
            ConnectionError: the client is gone, or was cut off because it reads nothing.
        """
        transport = self._request.transport
        idle = transport is not None and transport.get_write_buffer_size() == 0
        if idle and len(data) <= _AT_ONCE_BYTES:
            # Nothing waits: this can't either, and goes without a timer for every token.
            await self.response.write(data)
            return
        try:
            async with asyncio.timeout(REST_STALLED_CLIENT_TIMEOUT_S):
                await self.response.write(data)
        except TimeoutError as error:
            if transport is not None:
                transport.abort()
            raise ConnectionAbortedError("the client reads nothing") from error


@asynccontextmanager
async def outgoing(request: web.Request, headers: Mapping[str, str]) -> AsyncIterator[Outgoing]:
    """Send ``headers``, then what the context writes; it is left quietly when the client is."""
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    try:
        yield Outgoing(request, response)
        await response.write_eof()
    except ConnectionError:
        # Who hung up has it all already, or wants no more: nobody is left to tell.
        return
