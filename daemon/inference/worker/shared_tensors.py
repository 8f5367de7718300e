"""Large tensors between the pool and a worker, the worker's side (``tensor_transport``)."""

from __future__ import annotations

import mmap
import os
import threading
from typing import Any

from dreamer.daemon.inference.shared_area import WrittenArea, places
from dreamer.protocol.errors import InputError, LocalError
from dreamer.protocol.inference_limits import (
    TENSOR_INLINE_MAX_BYTES,
    TENSORS_MAPPED_KEPT_BYTES,
    TENSORS_SHARED_MAX_BYTES,
    TENSORS_TAKEN_TIMEOUT_S,
)

Fields = dict[str, Any]


class WorkerTensors:
    """The two areas of this worker: ``argument`` names their inherited file descriptors, if any.

    Any thread may call any method.
    """

    def __init__(self, argument: str) -> None:
        fds = [int(fd) for fd in argument.split(",") if fd]
        self._requests = fds[0] if fds else -1
        self._answers = WrittenArea(fds[1]) if fds else None
        self._mapped = memoryview(b"")
        self._given: dict[int, int] = {}
        self._changed = threading.Condition()

    def restore(self, fields: Fields) -> Fields:
        """Return a request's fields with their ``parts``, those in shared memory not copied.

        Such parts are valid until the request is answered.
        """
        if "shared" not in fields:
            return fields
        offset, sizes = fields["shared"]
        starts, size_bytes = places(sizes)
        view = self._view(offset, size_bytes)
        parts = [view[start : start + size] for start, size in zip(starts, sizes, strict=True)]
        return {**fields, "parts": parts}

    def share(self, number: int, fields: Fields) -> Fields:
        """Return an answer's fields with large ``parts`` in shared memory.

        Raises:
            InputError: the answer is more than can be handed over at once.
            LocalError: the pool doesn't take what earlier answers put there.
        """
        sizes = [memoryview(part).nbytes for part in fields.get("parts", ())]
        _, total = places(sizes)
        if total <= TENSOR_INLINE_MAX_BYTES or self._answers is None:
            return fields
        offset = self._room(number, total)
        self._answers.write(offset, fields["parts"])
        rest = {key: value for key, value in fields.items() if key != "parts"}
        return {**rest, "shared": [offset, sizes]}

    def taken(self, number: int) -> None:
        """Take an answer's region back: the pool has read it."""
        with self._changed:
            if self._answers is not None and (at := self._given.pop(number, None)) is not None:
                self._answers.release(at)
                self._changed.notify_all()

    def _view(self, offset: int, size_bytes: int) -> memoryview:
        """Return a region as memory: what lies at the beginning of the area stays mapped."""
        end = offset + size_bytes
        if end > TENSORS_MAPPED_KEPT_BYTES:
            return memoryview(_mapped(self._requests, offset, size_bytes))
        if end > len(self._mapped):
            # The area never gets shorter than this again (``WrittenArea.release``).
            whole = min(os.fstat(self._requests).st_size, TENSORS_MAPPED_KEPT_BYTES)
            self._mapped = memoryview(_mapped(self._requests, 0, whole))
        return self._mapped[offset:end]

    def _room(self, number: int, size_bytes: int) -> int:
        assert self._answers is not None
        if size_bytes > TENSORS_SHARED_MAX_BYTES:
            raise InputError(
                f"the answer's tensors are {size_bytes} bytes, more than "
                f"{TENSORS_SHARED_MAX_BYTES}; send a smaller batch, or name fewer outputs"
            )
        with self._changed:
            while (offset := self._answers.reserve(size_bytes)) is None:
                if not self._changed.wait(TENSORS_TAKEN_TIMEOUT_S):
                    raise LocalError("earlier answers are not fetched; try again")
            self._given[number] = offset
        return offset


def _mapped(fd: int, offset: int, size_bytes: int) -> mmap.mmap:
    # Filled at once: a fault for each page of a large batch costs more than the copy did.
    populate = getattr(mmap, "MAP_POPULATE", 0)
    return mmap.mmap(
        fd, size_bytes, flags=mmap.MAP_SHARED | populate, prot=mmap.PROT_READ, offset=offset
    )
