"""What tests of the pool do with it, each with a deadline."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from dreamer.daemon.inference.pool.pool import Pool
from dreamer.daemon.inference.requests import Event, GenerateRequest, Text

DEADLINE_S = 20.0
REQUEST = GenerateRequest(prompt="the world", max_tokens=8)

MakePool = Callable[..., Pool]


async def answer(
    pool: Pool,
    model: Path,
    name: str = "aa",
    request: GenerateRequest = REQUEST,
    keep_alive_s: float | None = None,
) -> list[Event]:
    """Return the events of a generation."""
    async with asyncio.timeout(DEADLINE_S):
        return [event async for event in pool.generate(model, name, request, keep_alive_s)]


async def load(pool: Pool, model: Path, name: str, instead_of: str | None = None) -> None:
    """Load a model to stay."""
    async with asyncio.timeout(DEADLINE_S):
        await pool.load(model, name, instead_of)


def text_of(events: list[Event]) -> str:
    """Return the text of a generation."""
    return "".join(event.text for event in events if isinstance(event, Text))


def token_ids_of(events: list[Event]) -> list[int]:
    """Return the tokens of a generation."""
    return [one for event in events if isinstance(event, Text) for one in event.token_ids]


def names(pool: Pool) -> list[str]:
    """Return the models in memory."""
    return [model.manifest_id for model in pool.loaded()]


async def reached(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await asyncio.sleep(0)


async def stopped(pid: int) -> None:
    """Stop a worker, and return once none of its threads runs.

    The signal is sent at once, but a thread that is just running, or that a request wakes, may
    still answer before it is heeded. Only the kernel's word to the parent says that all of them
    have stopped.
    """
    os.kill(pid, signal.SIGSTOP)
    await reached(lambda: os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None)


async def gone(pid: int) -> None:
    """Wait until a process has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)
