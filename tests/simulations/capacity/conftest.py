"""The daemon's own pool of models on a loop whose time jumps from one timer to the next."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dreamer.daemon.inference import pool as pool_module
from dreamer.daemon.inference import seat as seat_module
from dreamer.daemon.inference.process import WorkerOptions

T = TypeVar("T")


class _Jump(selectors.SelectSelector):
    """Waits no real time: whatever the loop would wait for, it has waited."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "nothing is left to happen: the pool waits for ever"
        if timeout > 0:
            self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


class _Time:
    """In place of the module ``time``."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.monotonic = loop.time


class FakeWorker:
    """A worker process that takes ``load_s`` to load and as long as a request says to answer.

    The model's directory is named after its load time; a request's prompt says how many seconds
    reading it takes and how many the rest.
    """

    pid, rss_bytes = 1, 0

    def __init__(self, load_s: float) -> None:
        self._load_s = load_s
        self._takes_s: list[float] = []
        self.alive = True
        self.ready = False

    @classmethod
    async def spawn(cls, model_dir: Path, options: WorkerOptions) -> FakeWorker:
        return cls(float(model_dir.name))

    async def load(self, timeout_s: float) -> None:
        await asyncio.sleep(self._load_s)
        self.ready = True

    def send(self, kind: str, fields: dict[str, Any]) -> None:
        if kind == "generate":
            self._takes_s = [float(word) for word in fields["messages"][0][1].split()]

    async def receive(self, number: int, timeout_s: float) -> tuple[str, dict[str, Any]]:
        takes_s = self._takes_s.pop(0)
        await asyncio.sleep(takes_s)
        if self._takes_s:
            return "text", {"text": "word", "token_ids": [1]}
        numbers = dict.fromkeys(
            ("prompt_tokens", "completion_tokens", "prefilled", "prefill_s", "decoded", "decode_s"),
            1,
        )
        return "done", {"id": number, "finish_reason": "stop", **numbers}

    async def kill(self) -> None:
        self.alive = False


@pytest.fixture
def in_virtual_time(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    """Return what runs a coroutine with the daemon's pool in virtual time, with fake workers."""
    loop = VirtualLoop()
    for module in (pool_module, seat_module):
        monkeypatch.setattr(module, "time", _Time(loop))
    monkeypatch.setattr(pool_module, "WorkerProcess", FakeWorker)
    yield loop.run_until_complete
    loop.close()
