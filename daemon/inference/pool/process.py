"""One worker process as the pool sees it: start, open a model, exchange frames, kill.

Several requests are under way in a worker at once. One task reads its pipe and hands each frame
to the exchange that its id names. A worker that dies, or hangs, is lost to all of them at once.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from dreamer.daemon.inference import channel
from dreamer.daemon.inference.channel import Fields
from dreamer.daemon.inference.load_options import LoadOptions
from dreamer.daemon.inference.pool.memory import cpu_seconds, rss_bytes
from dreamer.daemon.inference.pool.tensor_transport import PoolTensors, is_shared
from dreamer.protocol.errors import DreamerError, LocalError, LocalProtocolError, error_from_code
from dreamer.protocol.inference_limits import (
    INFERENCE_COMPUTE_MAX_S,
    INFERENCE_MESSAGE_MAX_BYTES,
    INFERENCE_PIPE_BYTES,
    INFERENCE_WORKER_LOG_MAX_LINES,
)

MODULE = "dreamer.daemon.inference.worker"

# A worker gets no credentials: only what finds libraries, devices and temporary space.
_ENVIRONMENT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "TEMP",
    "SYSTEMROOT",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
)
_LAST_OF_TENSORS = ("inferred", "embedded", "error")
_ENVIRONMENT_PREFIXES = ("CUDA_", "NVIDIA_", "OMP_")


class WorkerLostError(LocalError):
    """The worker died, hung or was ended. What it was asked can be asked of another."""


class Exchange:
    """One request in a worker: its frames, in order.

    The queue has no bound of its own: a generation is bounded by its ``max_tokens``, and the
    others are answered by one frame.
    """

    def __init__(self, worker: WorkerProcess, number: int) -> None:
        self._worker = worker
        self._number = number
        self._frames: asyncio.Queue[tuple[str, Fields] | DreamerError] = asyncio.Queue()

    async def next(self) -> tuple[str, Fields]:
        """Wait for the next frame.

        Raises:
            WorkerLostError: the worker died or hung.
            DreamerError: the worker's own ``error`` frame, whatever its kind.
        """
        frame = await self._frames.get()
        if isinstance(frame, DreamerError):
            raise frame
        kind, fields = frame
        if kind == "error":
            raise error_from_code(fields["code"], fields["message"])
        return kind, fields

    def put(self, frame: tuple[str, Fields] | DreamerError) -> None:
        """Take a frame, or what befell the worker."""
        self._frames.put_nowait(frame)

    def close(self, finished: bool) -> None:
        """End the exchange; one that is not finished is cancelled in the worker."""
        self._worker.forget(self._number, cancel=not finished)


class WorkerProcess:
    """A running worker. It is stateless between requests, so it is ended by killing it."""

    def __init__(
        self, process: asyncio.subprocess.Process, tensors: PoolTensors, silence_timeout_s: float
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._requests = process.stdin
        self._answers = process.stdout
        self._tensors = tensors
        self._silence_timeout_s = silence_timeout_s
        self._log: deque[str] = deque(maxlen=INFERENCE_WORKER_LOG_MAX_LINES)
        self._exchanges: dict[int, Exchange] = {}
        self._last_number = 0
        self._heard = 0
        self._lost = ""
        self._ending: asyncio.Task[None] | None = None
        self.gone = False
        """Nothing of it is left: it was ended and waited for."""
        self.waiting = asyncio.Event()
        """Set when its libraries are imported, or it is gone."""
        self.when_lost: Callable[[], None] | None = None
        """Called once if it dies or hangs, and not when it is ended on purpose."""
        self._logging = asyncio.create_task(self._keep_log(process.stderr))
        self._reading = asyncio.create_task(self._route())
        self._watching = asyncio.create_task(self._watch())

    @classmethod
    async def spawn(cls, silence_timeout_s: float) -> WorkerProcess:
        """Start a worker without a model."""
        tensors = PoolTensors()
        try:
            process = await _start(tensors)
        except OSError as error:
            tensors.close()
            raise LocalError(
                f"a worker process can't be started ({error}): this machine is short of memory, "
                "processes or open files; try again later"
            ) from error
        _widen(process)
        return cls(process, tensors, silence_timeout_s)

    async def open(self, model_dir: Path, options: LoadOptions, timeout_s: float) -> Fields:
        """Load a model and return what it tells of itself, its card.

        Raises:
            InputError, ForbiddenError: the model can't be run.
            LocalError: it took too long, or the process died.
        """
        self._require_alive()
        exchange = self._exchanges[0] = Exchange(self, 0)
        self._send("open", {"id": 0, "model_dir": str(model_dir), **asdict(options)})
        try:
            async with asyncio.timeout(timeout_s):
                _, card = await exchange.next()
        except TimeoutError:
            raise LocalError(
                f"the model was not loaded within {timeout_s:.0f} s; try again, or a smaller one"
            ) from None
        finally:
            self.forget(0, cancel=False)
        return card

    def ask(self, kind: str, fields: Fields) -> Exchange:
        """Send a request and return the exchange in which it is answered.

        Raises:
            WorkerLostError: the worker is gone already.
            InputError: more than a worker takes at once.
        """
        self._require_alive()
        self._last_number += 1
        exchange = Exchange(self, self._last_number)
        self._send(kind, {"id": self._last_number, **fields})
        self._exchanges[self._last_number] = exchange
        return exchange

    async def ask_once(self, kind: str, fields: Fields) -> Fields:
        """Ask what has one answer, whose tensors may be large, and return it.

        Cancelling it tells the worker, but ends only when the worker has answered: a graph that
        runs can't be stopped.

        Raises:
            WorkerLostError: the worker died or hung.
            DreamerError: the worker's own error.
        """
        shared = await self._tensors.share(fields)
        try:
            exchange = self.ask(kind, shared)
        except DreamerError:
            self._tensors.unlent(shared)
            raise
        number = self._last_number
        self._tensors.lent(number, shared)
        try:
            _, answer = await exchange.next()
        except asyncio.CancelledError:
            self._send("cancel", {"id": number})
            with suppress(DreamerError):
                self._taken(number, (await exchange.next())[1])
            raise
        finally:
            self.forget(number, cancel=False)
        try:
            return await self._tensors.fetch(answer)
        finally:
            self._taken(number, answer)

    def forget(self, number: int, cancel: bool) -> None:
        """Drop what still comes for a request."""
        if self._exchanges.pop(number, None) is not None and cancel:
            self._send("cancel", {"id": number})

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def rss_bytes(self) -> int:
        """Resident memory, or 0 where the system has no /proc to tell."""
        return rss_bytes(self.pid)

    @property
    def alive(self) -> bool:
        """Whether the process runs and can be asked."""
        return not self._lost and self._process.returncode is None

    async def kill(self, reason: str = "was ended") -> None:
        """End the process and wait until it is gone; requests under way are lost."""
        self.when_lost = None
        self._lose(reason)
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        # Whoever stops waiting doesn't stop the ending.
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        self._requests.close()
        self._watching.cancel()
        await self._process.wait()
        # A pipe that isn't read to its end stays open.
        await asyncio.gather(self._reading, self._logging, self._watching, return_exceptions=True)
        self._tensors.close()
        self.gone = True

    def _require_alive(self) -> None:
        if self._lost:
            raise WorkerLostError(self._lost)

    def _send(self, kind: str, fields: Fields) -> None:
        buffers = channel.encode(kind, fields)
        if not self._requests.is_closing():
            self._requests.writelines(buffers)

    async def _route(self) -> None:
        """Hand every frame to its exchange until the pipe ends."""
        try:
            while True:
                kind, fields = await self._frame()
                self._heard += 1
                self._take(kind, fields)
        except (asyncio.IncompleteReadError, ConnectionError):
            await self._process.wait()
            await self._logging
            reason = self._log[-1] if self._log else f"exit status {self._process.returncode}"
            self._lose(f"died ({reason:.200})")
        except LocalProtocolError as error:
            self._lose(f"was not understood ({error})")
            self._process.kill()
        finally:
            self.waiting.set()

    def _take(self, kind: str, fields: Fields) -> None:
        number = fields["id"]
        if kind == "waiting":
            self.waiting.set()
            return
        if kind in _LAST_OF_TENSORS:
            self._tensors.answered(number)
        if exchange := self._exchanges.get(number):
            exchange.put((kind, fields))
        else:
            self._taken(number, fields)

    def _taken(self, number: int, answer: Fields) -> None:
        """Tell the worker that the memory in which an answer lay may be used again."""
        if is_shared(answer):
            self._send("taken", {"id": number})

    async def _frame(self) -> tuple[str, Fields]:
        wanted = channel.sizes(await self._answers.readexactly(channel.HEADER.size))
        body = await self._answers.readexactly(wanted.map_bytes)
        parts = b""
        if wanted.parts_bytes:
            parts = await self._answers.readexactly(wanted.parts_bytes)
        return channel.decode(body, parts)

    async def _watch(self) -> None:
        """End a worker that owes answers and shows no sign of life for too long.

        A long computation says nothing either, but it takes processor time.
        """
        timeout_s, heard, used_s = self._silence_timeout_s, -1, 0.0
        silent_since = idle_since = time.monotonic()
        while not self._lost:
            now = time.monotonic()
            if heard != self._heard or not self._exchanges:
                heard, silent_since, idle_since = self._heard, now, now
            if (used_now_s := cpu_seconds(self.pid)) != used_s:
                used_s, idle_since = used_now_s, now
            too_long_s = max(timeout_s, INFERENCE_COMPUTE_MAX_S)
            if now - idle_since >= timeout_s or now - silent_since >= too_long_s:
                self._lose(f"was silent for {now - silent_since:.0f} s and was ended")
                self._process.kill()
            await asyncio.sleep(timeout_s / 4)

    def _lose(self, reason: str) -> None:
        if self._lost:
            return
        self._lost = (
            f"the model's worker {reason}; try again, and if it was out of memory a smaller model"
        )
        for exchange in self._exchanges.values():
            exchange.put(WorkerLostError(self._lost))
        if self.when_lost is not None:
            self.when_lost()

    async def _keep_log(self, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(INFERENCE_MESSAGE_MAX_BYTES):
            lines = chunk.decode(errors="replace").splitlines()
            self._log.extend(line.strip() for line in lines if line.strip())


async def _start(tensors: PoolTensors) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", MODULE,
        "--tensor-fds", tensors.argument,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=INFERENCE_PIPE_BYTES,
        pass_fds=tensors.fds,
        env=_environment(),
    )  # fmt: skip


def _widen(process: asyncio.subprocess.Process) -> None:
    """Have the pipe of answers hold more than 64 KiB: tensors come in fewer pieces."""
    if sys.platform != "linux":
        return
    transport = process._transport  # type: ignore[attr-defined]
    pipe = transport.get_pipe_transport(1).get_extra_info("pipe")
    # What an unprivileged user may have in pipes is bounded (pipe-user-pages-soft).
    # Not every event loop tells of its pipe; then it stays as it is.
    with suppress(OSError, AttributeError):
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, INFERENCE_PIPE_BYTES)


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }
    # As nvidia-smi numbers the devices.
    return {**kept, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
