"""One worker process as the pool sees it: start, send, receive, kill."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamer.daemon.inference import channel
from dreamer.protocol.errors import LocalError, error_from_code
from dreamer.protocol.inference_limits import (
    INFERENCE_MESSAGE_MAX_BYTES,
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
_ENVIRONMENT_PREFIXES = ("CUDA_", "NVIDIA_", "OMP_")

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker is started with; ``memory_bytes`` 0 means unbounded."""

    threads: int
    memory_bytes: int


class WorkerProcess:
    """A running worker. It is stateless between requests, so it is ended by killing it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._requests = process.stdin
        self._answers = process.stdout
        self._log: deque[str] = deque(maxlen=INFERENCE_WORKER_LOG_MAX_LINES)
        self._body_bytes: int | None = None
        self._reading = asyncio.Lock()
        self.ready = False
        self._logging = asyncio.create_task(self._keep_log(process.stderr))

    @classmethod
    async def spawn(cls, model_dir: Path, options: WorkerOptions) -> WorkerProcess:
        """Start a worker, which begins to load its model."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", MODULE,
            "--model-dir", str(model_dir),
            "--threads", str(options.threads),
            "--memory-bytes", str(options.memory_bytes),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
        )  # fmt: skip
        return cls(process)

    async def load(self, timeout_s: float) -> None:
        """Wait until the model is loaded.

        Raises:
            InputError, ForbiddenError: the model can't be run.
            LocalError: it took too long, or the process died.
        """
        await self.receive(0, timeout_s)
        self.ready = True

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def rss_bytes(self) -> int:
        """Resident memory, or 0 where the system has no /proc to tell."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        except OSError:
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.returncode is None

    def send(self, kind: str, fields: Fields) -> None:
        """Queue a frame for the worker."""
        if not self._requests.is_closing():
            self._requests.write(channel.encode(kind, fields))

    async def receive(self, number: int, timeout_s: float) -> tuple[str, dict[str, Any]]:
        """Wait for the next frame of this request, skipping what is left of earlier ones.

        Raises:
            LocalError: the worker died, or said nothing for ``timeout_s``.
            DreamerError: the worker's own ``error`` frame, whatever its kind.
        """
        try:
            async with asyncio.timeout(timeout_s):
                kind, fields = await self._frame()
                while fields["id"] != number:
                    kind, fields = await self._frame()
        except TimeoutError:
            await self.kill()
            raise LocalError(
                f"the model's worker was silent for {timeout_s:.0f} s and was ended; "
                "try again, or a smaller model or prompt"
            ) from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._died() from None
        if kind == "error":
            raise error_from_code(fields["code"], fields["message"])
        return kind, fields

    async def kill(self) -> None:
        """End the process and wait until it is gone."""
        if self.alive:
            self._process.kill()
        self._requests.close()
        await self._process.wait()
        await self._logging
        # A pipe that isn't read to its end stays open.
        async with self._reading:
            await self._answers.read()

    async def _frame(self) -> tuple[str, dict[str, Any]]:
        """Read a frame; when cancelled in the middle, the next call reads its rest."""
        async with self._reading:
            if self._body_bytes is None:
                header = await self._answers.readexactly(channel.HEADER.size)
                self._body_bytes = channel.body_size(header)
            body = await self._answers.readexactly(self._body_bytes)
            self._body_bytes = None
        return channel.decode(body)

    async def _died(self) -> LocalError:
        await self.kill()
        reason = self._log[-1] if self._log else f"exit status {self._process.returncode}"
        return LocalError(
            f"the model's worker died ({reason:.200}); try again, and if it was out of memory "
            "a smaller model"
        )

    async def _keep_log(self, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(INFERENCE_MESSAGE_MAX_BYTES):
            lines = chunk.decode(errors="replace").splitlines()
            self._log.extend(line.strip() for line in lines if line.strip())


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }
