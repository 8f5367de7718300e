"""The daemon's own pool of models on a loop whose time jumps from one timer to the next."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dreamer.daemon.inference.load_options import LoadOptions
from dreamer.daemon.inference.pool import answering, loading, pool, seat, seats, spares
from dreamer.daemon.inference.pool.loading import Loading
from dreamer.daemon.inference.pool.seat import Seat

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

    def run_in_executor(
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Do at once what the daemon asks of the disk: a thread knows nothing of this time."""
        done = self.create_future()
        done.set_result(func(*args))
        return done


class _Time:
    """In place of the module ``time``."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.monotonic = loop.time


class FakeExchange:
    """A request in a fake worker, answered as slowly as its prompt says."""

    def __init__(self, takes_s: list[float]) -> None:
        self._takes_s = takes_s

    async def next(self) -> tuple[str, dict[str, Any]]:
        await asyncio.sleep(self._takes_s.pop(0))
        if self._takes_s:
            return "text", {"text": "word", "token_ids": [1]}
        numbers = dict.fromkeys(
            ("prompt_tokens", "completion_tokens", "prefilled", "prefill_s", "decoded", "decode_s"),
            1,
        )
        return "done", {"finish_reason": "stop", **numbers}

    def close(self, finished: bool) -> None:
        pass


class FakeWorker:
    """A worker process that takes ``load_s`` to load and as long as a request says to answer.

    The model's directory is named after its load time; a request's prompt says how many seconds
    reading it takes and how many the rest.
    """

    pid, rss_bytes = 1, 0

    def __init__(self) -> None:
        self.alive = True
        self.gone = False
        self.when_lost: Callable[[], None] | None = None

    @classmethod
    async def spawn(cls, silence_timeout_s: float) -> FakeWorker:
        return cls()

    async def open(self, model_dir: Path, options: LoadOptions, timeout_s: float) -> dict[str, Any]:
        await asyncio.sleep(float(model_dir.name))
        return {"kind": "decoder", "slots": options.slots}

    def ask(self, kind: str, fields: dict[str, Any]) -> FakeExchange:
        return FakeExchange([float(word) for word in fields["messages"][0]["content"].split()])

    async def kill(self) -> None:
        self.alive, self.gone = False, True


async def _takes_no_memory(self: Loading, seat: Seat) -> int:
    return 0


@pytest.fixture
def in_virtual_time(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    """Return what runs a coroutine with the daemon's pool in virtual time, with fake workers."""
    loop = VirtualLoop()
    for module in (answering, loading, pool, seat, seats):
        monkeypatch.setattr(module, "time", _Time(loop))
    monkeypatch.setattr(spares, "WorkerProcess", FakeWorker)
    monkeypatch.setattr(Loading, "expected_bytes", _takes_no_memory)
    yield loop.run_until_complete
    loop.close()
