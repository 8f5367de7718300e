"""Background tasks: kept, ended, and their errors not lost."""

from __future__ import annotations

import asyncio
import logging

import pytest

from dreamer.daemon.tasks import TaskSet


async def test_closing_ends_what_runs_and_waits_for_it() -> None:
    tasks, cleaned_up = TaskSet(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned_up.append(True)

    task = tasks.start(work())
    await asyncio.sleep(0)
    await tasks.close()
    assert task.cancelled()
    assert cleaned_up == [True]


async def test_the_error_of_a_task_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    tasks = TaskSet()

    async def work() -> None:
        raise ValueError("lost on the way")

    with caplog.at_level(logging.ERROR):
        await asyncio.wait([tasks.start(work())])
        await asyncio.sleep(0)
    assert "lost on the way" in caplog.text
    await tasks.close()
