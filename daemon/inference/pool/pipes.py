"""A worker's process and its pipes: frames out of what comes, in the very callback that reads it.

A stream and a task that reads it would take three turns of the loop for an answer instead of one,
and beside a graph that fills the processor's caches each of them costs several times what it does
alone.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

from dreamer.daemon.inference.channel import Fields, FrameBuffer
from dreamer.daemon.inference.tensors import Data
from dreamer.protocol.errors import LocalProtocolError
from dreamer.protocol.inference_limits import INFERENCE_PIPE_BYTES, INFERENCE_WORKER_LOG_MAX_LINES

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
_ENVIRONMENT_PREFIXES = ("CUDA_", "NVIDIA_", "OMP_")

_IN, _OUT, _LOG = range(3)


class WorkerPipes(asyncio.SubprocessProtocol):
    """One running process. ``take`` is called with every frame, in order, ``broken`` with an error
    once what comes is none, ``ended`` once it is gone and all that it said was taken.
    """

    def __init__(
        self,
        take: Callable[[str, Fields], None],
        broken: Callable[[LocalProtocolError], None],
        ended: Callable[[], None],
    ) -> None:
        self._take = take
        self._broken = broken
        self._ended = ended
        self._frames = FrameBuffer()
        self._open = {_OUT, _LOG}
        self._exited = False
        self._readable = True
        self._log: deque[str] = deque(maxlen=INFERENCE_WORKER_LOG_MAX_LINES)
        self._gone = asyncio.Event()

    async def start(self, arguments: Sequence[str], fds: Sequence[int]) -> None:
        """Start a worker that inherits ``fds``.

        Raises:
            OSError: the system has no room for it.
        """
        await asyncio.get_running_loop().subprocess_exec(
            lambda: self,
            *(sys.executable, "-P", "-m", MODULE, *arguments),
            pass_fds=tuple(fds),
            env=_environment(),
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._transport.get_pid()

    @property
    def exit_status(self) -> int | None:
        """How it ended, None while it runs."""
        return self._transport.get_returncode()

    @property
    def last_words(self) -> str:
        """The last line that it logged."""
        return self._log[-1] if self._log else ""

    def send(self, pieces: Sequence[Data]) -> None:
        """Write pieces of a frame; nobody hears them once it is about to end."""
        if not self._stdin.is_closing():
            self._stdin.writelines(pieces)

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            self._transport.kill()

    async def end(self) -> None:
        """End it and wait until it is gone, and all that it said was taken."""
        if self.exit_status is None:
            self.kill()
        self._stdin.close()
        await self._gone.wait()

    # The event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the process that was started."""
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(_IN))
        if (answers := self._transport.get_pipe_transport(_OUT)) is not None:
            _widen(answers)
            # asyncio would hand each piece on in another turn of the loop.
            answers.set_protocol(_AtOnce(self._take_data, answers.get_protocol()))

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        """Take what came."""
        assert isinstance(data, bytes)
        if fd == _LOG:
            lines = data.decode(errors="replace").splitlines()
            self._log.extend(line.strip() for line in lines if line.strip())
            return
        self._take_data(data)

    def _take_data(self, data: bytes) -> None:
        if not self._readable:
            return
        try:
            for kind, fields in self._frames.feed(data):
                self._take(kind, fields)
        except LocalProtocolError as error:
            self._readable = False
            self._broken(error)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Note the end of a pipe."""
        self._open.discard(fd)
        self._maybe_ended()

    def process_exited(self) -> None:
        """Note the end of the process: the pipes may still hold what it said."""
        self._exited = True
        self._maybe_ended()

    def _maybe_ended(self) -> None:
        if self._exited and not self._open and not self._gone.is_set():
            self._transport.close()
            self._gone.set()
            self._ended()


class _AtOnce(asyncio.Protocol):
    """Hands data on as it comes, and the end of the pipe to asyncio, which waits for that."""

    def __init__(self, take: Callable[[bytes], None], rest: asyncio.BaseProtocol) -> None:
        self._take = take
        self._rest = rest

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Have asyncio take note."""
        self._rest.connection_lost(exc)


def _widen(transport: asyncio.BaseTransport) -> None:
    """Have the pipe of answers hold more than 64 KiB: tensors come in fewer pieces."""
    if sys.platform != "linux":
        return
    pipe = transport.get_extra_info("pipe")
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
