"""Blocking work in threads that a stopping tracker does not wait for: a store may hang for long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def detached(work: Callable[[], T], name: str) -> T:
    """Return what ``work`` returns, or raise what it raises; ``name`` is the thread's.

    The thread goes on when the caller is cancelled, and ends with the process.
    """
    done: Future[T] = Future()

    def run() -> None:
        # From here on it can't be cancelled: whoever waited may be gone when it is done.
        if not done.set_running_or_notify_cancel():
            return
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await asyncio.wrap_future(done)
