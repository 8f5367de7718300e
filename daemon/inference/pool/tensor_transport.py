"""Large tensors between the pool and a worker, the pool's side: shared memory beside the frames.

The ``parts`` of a frame (``channel``) are its tensors' bytes. Few of them travel in the frame; more
than ``TENSOR_INLINE_MAX_BYTES`` lie in a shared area, and the frame says where: ``shared`` is
``[offset, [size, ...]]``. A worker has two areas: the pool writes requests into one and gets the
region back with the answer, the worker (``worker_tensors``) writes answers into the other and gets
the region back with the frame ``taken``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from dreamer.daemon.inference.shared_area import WrittenArea, open_area, places, read_region
from dreamer.protocol.errors import InputError, LocalError, LocalProtocolError
from dreamer.protocol.inference_limits import (
    TENSOR_INLINE_MAX_BYTES,
    TENSORS_COPIED_ON_LOOP_MAX_BYTES,
    TENSORS_SHARED_MAX_BYTES,
)

Fields = dict[str, Any]
T = TypeVar("T")


def is_shared(fields: Mapping[str, Any]) -> bool:
    """Say whether a frame's tensors lie in shared memory."""
    return "shared" in fields


class PoolTensors:
    """The pool's side for one worker. Use it from one event loop; ``close`` it with the worker."""

    def __init__(self) -> None:
        # Windows can't hand such files down; there a request has to fit in a frame.
        self.fds = () if sys.platform == "win32" else (open_area(), open_area())
        self._requests = WrittenArea(self.fds[0]) if self.fds else None
        self._lent: dict[int, int] = {}
        self._freed = asyncio.Event()
        self._copying = ThreadPoolExecutor(1, "tensors")

    @property
    def argument(self) -> str:
        """What the worker is told on its command line; its process must inherit ``fds``."""
        return ",".join(map(str, self.fds))

    async def share(self, fields: Fields) -> Fields:
        """Return a request's fields with large ``parts`` in shared memory, once there is room.

        Raises:
            InputError: it is more than a worker takes at once.
        """
        sizes = [memoryview(part).nbytes for part in fields.get("parts", ())]
        _, total = places(sizes)
        if total <= TENSOR_INLINE_MAX_BYTES or self._requests is None:
            return fields
        offset = await self._room(self._requests, total)
        requests, parts = self._requests, fields["parts"]
        await self._copy(
            total, lambda: requests.write(offset, parts), lambda: self._release(offset)
        )
        rest = {key: value for key, value in fields.items() if key != "parts"}
        return {**rest, "shared": [offset, sizes]}

    def lent(self, number: int, fields: Mapping[str, Any]) -> None:
        """Remember that the request of this number refers to a region."""
        if is_shared(fields):
            self._lent[number] = fields["shared"][0]

    def unlent(self, fields: Mapping[str, Any]) -> None:
        """Take back what ``share`` put away: the request was never sent."""
        if is_shared(fields):
            self._release(fields["shared"][0])

    def answered(self, number: int) -> None:
        """Take a request's region back: the worker has answered, and reads it no more."""
        if (offset := self._lent.pop(number, None)) is not None:
            self._release(offset)

    async def fetch(self, fields: Fields) -> Fields:
        """Return an answer's fields with its ``parts``; say ``taken`` to the worker after this.

        Raises:
            LocalProtocolError: the worker said what isn't so.
        """
        if not is_shared(fields):
            return fields
        offset, sizes = _checked(fields["shared"])
        if not self.fds:
            raise LocalProtocolError("a worker shares memory that it hasn't got")
        fd = self.fds[1]
        parts = await self._copy(sum(sizes), lambda: read_region(fd, offset, sizes), lambda: None)
        return {**fields, "parts": parts}

    def close(self) -> None:
        """Give the memory back. The worker is gone."""
        # After a copy that is still under way: a file may not be closed below it.
        self._copying.submit(_close, self.fds)
        self._copying.shutdown(wait=False)
        self.fds, self._requests = (), None
        self._freed.set()

    async def _room(self, area: WrittenArea, size_bytes: int) -> int:
        if size_bytes > TENSORS_SHARED_MAX_BYTES:
            raise InputError(
                f"the tensors are {size_bytes} bytes, more than {TENSORS_SHARED_MAX_BYTES} that "
                "a worker takes at once; send the batch in parts"
            )
        while (offset := area.reserve(size_bytes)) is None:
            self._freed.clear()
            await self._freed.wait()
            if self._requests is None:
                raise LocalError("the model's worker ended; try again")
        return offset

    def _release(self, offset: int) -> None:
        if self._requests is not None:
            self._requests.release(offset)
            self._freed.set()

    async def _copy(self, size_bytes: int, copy: Callable[[], T], undo: Callable[[], None]) -> T:
        """Copy here, or in a thread if that would hold up the loop; ``undo`` if it isn't wanted."""
        if size_bytes <= TENSORS_COPIED_ON_LOOP_MAX_BYTES:
            return copy()
        copied: Future[T] = self._copying.submit(copy)
        waiting = asyncio.wrap_future(copied)
        try:
            return await asyncio.shield(waiting)
        except BaseException:
            # The thread may be in the middle of it: the region is free only after that.
            waiting.add_done_callback(lambda _: undo())
            raise


def _checked(shared: object) -> tuple[int, list[int]]:
    match shared:
        case [int(offset), [*given]] if offset >= 0:
            sizes = [one for one in given if isinstance(one, int) and one >= 0]
            if len(sizes) == len(given) and offset + sum(sizes) <= TENSORS_SHARED_MAX_BYTES:
                return offset, sizes
    raise LocalProtocolError("a worker shares memory that it hasn't got")


def _close(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)
