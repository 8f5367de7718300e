"""A model's place in the pool: its worker when it is loaded, its queue, its statistics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from dreamer.daemon.inference import channel
from dreamer.daemon.inference.channel import Done
from dreamer.daemon.inference.process import WorkerProcess
from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.protocol.errors import DreamerError


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory. Rates are tokens per second over its requests, 0 before the first."""

    manifest_id: str
    pid: int
    rss_bytes: int
    requests: int
    decode_tokens_s: float
    prefill_tokens_s: float


class Seat:
    """A model's place in the pool, whether it is loaded or not."""

    def __init__(self, manifest_id: str) -> None:
        self.manifest_id = manifest_id
        self.turn = asyncio.Lock()
        self.worker: WorkerProcess | None = None
        self.idle_since = time.monotonic()
        self._number = 0
        self._requests = 0
        self._tokens = {"prefilled": 0, "decoded": 0}
        self._seconds = {"prefilled": 0.0, "decoded": 0.0}

    async def stop(self) -> None:
        """End the worker, if there is one."""
        worker, self.worker = self.worker, None
        if worker is not None:
            await worker.kill()

    async def converse(
        self, worker: WorkerProcess, request: GenerateRequest, silence_timeout_s: float
    ) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """Yield the frames of one request; leaving early cancels it."""
        self._number += 1
        number, finished = self._number, False
        worker.send("generate", {"id": number, **channel.request_fields(request)})
        try:
            while True:
                kind, fields = await worker.receive(number, silence_timeout_s)
                finished = kind == "done"
                yield kind, fields
        except DreamerError:
            finished = True
            raise
        finally:
            if not finished:
                worker.send("cancel", {"id": number})

    def count(self, fields: dict[str, Any]) -> Done:
        """Take a finished request into the statistics and return its account."""
        done = Done(**{key: value for key, value in fields.items() if key != "id"})
        self._requests += 1
        self._tokens["prefilled"] += done.prefilled
        self._seconds["prefilled"] += done.prefill_s
        self._tokens["decoded"] += done.decoded
        self._seconds["decoded"] += done.decode_s
        return done

    def report(self) -> LoadedModel:
        """Describe a loaded model."""
        assert self.worker is not None
        rates = {
            key: tokens / self._seconds[key] if tokens else 0.0
            for key, tokens in self._tokens.items()
        }
        return LoadedModel(
            self.manifest_id,
            self.worker.pid,
            self.worker.rss_bytes,
            self._requests,
            rates["decoded"],
            rates["prefilled"],
        )
