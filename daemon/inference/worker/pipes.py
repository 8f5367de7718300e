"""A worker's two pipes: frames from the pool in, answers out (``channel``)."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from dreamer.daemon.inference import channel
from dreamer.daemon.inference.tensors import Data
from dreamer.daemon.inference.worker.runner import Frame
from dreamer.daemon.inference.worker.shared_tensors import WorkerTensors
from dreamer.protocol.inference_limits import INFERENCE_CANCELS_KEPT

Fields = dict[str, Any]


class PipeInbox:
    """Reads frames on a thread of its own, so that a cancellation is seen in mid-computation.

    Once ``serve`` was called, whoever has read a request answers it, and another thread reads on:
    handing each request to a thread that sleeps would cost more than reading it. When the pipe
    ends the daemon is gone, and so is this process.
    """

    def __init__(self, stream: BinaryIO, tensors: WorkerTensors) -> None:
        self._stream = stream
        self._tensors = tensors
        self._frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._cancelled: deque[int] = deque(maxlen=INFERENCE_CANCELS_KEPT)
        self._reading = threading.Lock()
        # Who answers is decided together with where the frame goes, or it could lie in a queue that
        # nobody looks at any more.
        self._handing = threading.Lock()
        self._answer: Callable[[Frame], None] | None = None
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def wait(self) -> Frame:
        """Block for the next frame."""
        return self._frames.get()

    def poll(self) -> Frame | None:
        """Return the next frame if there is one already."""
        try:
            return self._frames.get_nowait()
        except queue.Empty:
            return None

    def cancelled(self, number: int) -> bool:
        """Say whether this request was cancelled; once asked, it is forgotten."""
        if not self._cancelled:
            return False
        try:
            self._cancelled.remove(number)
        except ValueError:
            return False
        return True

    def serve(self, answer: Callable[[Frame], None], threads: int) -> None:
        """Have every request answered on the thread that reads it, one of so many, for ever."""
        with self._handing:
            self._answer = answer
        # This thread is one, the one that has read so far another.
        for _ in range(threads - 2):
            threading.Thread(target=self._read, name="inbox", daemon=True).start()
        while (frame := self.poll()) is not None:
            if frame.kind != "cancel":
                answer(frame)
        self._read()

    def _read(self) -> None:
        while True:
            with self._reading:
                frame = self._next()
            with self._handing:
                answer = self._answer
                if answer is None:
                    self._frames.put(frame)
            if answer is not None and frame.kind != "cancel":
                answer(frame)

    def _next(self) -> Frame:
        """Block for the next frame that isn't for this class itself."""
        while found := channel.read(self._stream):
            kind, fields = found
            number = int(fields.pop("id"))
            if kind == "taken":
                self._tensors.taken(number)
                continue
            if kind == "cancel":
                self._cancelled.append(number)
            return Frame(kind, number, self._tensors.restore(fields))
        # The main thread may be deep inside ONNX Runtime: don't wait for it.
        os._exit(0)


class PipeOutbox:
    """Writes frames, of several threads if need be."""

    def __init__(self, stream: BinaryIO, tensors: WorkerTensors) -> None:
        self._stream = stream
        self._tensors = tensors
        self._writing = threading.Lock()

    def send(self, kind: str, number: int, fields: Fields) -> None:
        """Write a frame.

        Raises:
            InputError: its tensors are more than can be handed over.
            LocalError: the pool doesn't fetch them.
        """
        self.send_all([(kind, number, fields)])

    def send_all(self, frames: Iterable[tuple[str, int, Fields]]) -> None:
        """Write frames in one go; raises as ``send``."""
        pieces: list[Data] = []
        for kind, number, fields in frames:
            named = {**fields, "id": number}
            if "parts" in fields:
                # Outside the lock: it may have to wait for the pool to take earlier answers.
                named = self._tensors.share(number, named)
            pieces += channel.encode(kind, named)
        with self._writing:
            self._stream.writelines(pieces)
            self._stream.flush()
