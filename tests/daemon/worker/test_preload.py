"""Preloading: fetched, loaded, followed when an alias moves, tried again when something fails."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager

import pytest

from dreamer.daemon.ports import Progress
from dreamer.daemon.worker import preload as preload_module
from dreamer.daemon.worker.preload import Preload, Wanted
from dreamer.protocol.errors import LocalError, NoMatchError, RemoteError
from dreamer.protocol.ids import ManifestId, RoomId

WAIT_S = 10.0
ROOM = RoomId(bytes(32))


def model(number: int) -> Wanted:
    return Wanted(ManifestId(bytes([number]) * 32), ROOM, f"model-{number}", 100)


class FakeModels:
    """A registry of aliases and a node that notes what it is asked to do.

    A model fetches at once unless it is ``held up``, and is loaded if its name is among ``runs``.
    """

    def __init__(self, **aliases: Wanted) -> None:
        self.aliases = aliases
        self.errors: list[Exception] = []
        self.log: list[tuple[str, str]] = []
        self.stuck: dict[str, asyncio.Event] = {}
        self.runs = {"model-1", "model-2", "model-3"}
        self.loaded: dict[str, None] = {}
        self.kept: dict[str, None] = {}

    async def resolve(self, ref):
        if ref not in self.aliases:
            raise NoMatchError(f"no model is called {ref!r}")
        return self.aliases[ref]

    async def fetch(self, wanted):
        self.log.append(("fetch", wanted.name))
        yield Progress("fetch", 40, 100)
        if wanted.name in self.stuck:
            await self.stuck[wanted.name].wait()
        if self.errors:
            raise self.errors.pop(0)

    async def load(self, wanted, instead_of):
        self.log.append(("load", wanted.name))
        if wanted.name in self.runs:
            self.loaded[wanted.name] = None
        return wanted.name in self.runs

    async def let_go(self, gone):
        self.log.append(("let go", gone.name))
        self.loaded.pop(gone.name, None)
        self.kept.pop(gone.name, None)

    def hold(self, wanted):
        self.kept[wanted.name] = None


@asynccontextmanager
async def running(models, *refs, follow=False):
    """Run a preload, with a function that waits until something holds."""
    news = asyncio.Event()
    preload = Preload(refs, models, random.Random(1), follow=follow, changed=news.set)
    task = asyncio.ensure_future(preload.run())

    async def until(happened):
        async with asyncio.timeout(WAIT_S):
            while not happened():
                await asyncio.sleep(0)

    try:
        yield preload, until, task
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            assert task.exception() is None


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(preload_module, "PRELOAD_RETRY_BASE_S", 0.0)


async def test_ready_once_every_model_is_fetched_and_loaded():
    models = FakeModels(prod=model(1), files=model(9))
    async with running(models, "prod", "files") as (preload, until, task):
        assert not preload.ready
        await until(lambda: preload.ready)
        await task
    assert models.loaded == {"model-1": None}
    first, second = (one.info() for one in preload.models)
    assert (first.state, first.loaded, first.name) == ("ready", True, "model-1")
    assert (second.state, second.loaded, second.name) == ("ready", False, "model-9")
    assert models.kept.keys() == {"model-1", "model-9"}


async def test_not_ready_while_one_model_is_on_its_way():
    models = FakeModels(prod=model(1), big=model(2))
    models.stuck["model-2"] = asyncio.Event()
    async with running(models, "prod", "big") as (preload, until, _):
        await until(lambda: preload.models[0].ready and ("fetch", "model-2") in models.log)
        await until(lambda: preload.models[1].info().done == 40)
        shown = preload.models[1].info()
        assert (preload.ready, shown.state, shown.done, shown.total) == (False, "fetching", 40, 100)
        models.stuck["model-2"].set()
        await until(lambda: preload.ready)


async def test_alias_that_is_not_there_is_said_and_waited_for():
    models = FakeModels()
    async with running(models, "prod") as (preload, until, _):
        await until(lambda: preload.models[0].failures > 2)
        assert preload.models[0].info().note == "no model is called 'prod'"
        models.aliases["prod"] = model(1)
        await until(lambda: preload.ready)
    assert preload.models[0].info().note == ""


async def test_failed_fetch_is_tried_again():
    models = FakeModels(prod=model(1))
    models.errors = [RemoteError("nobody has it"), RemoteError("nobody has it")]
    async with running(models, "prod") as (preload, until, _):
        await until(lambda: preload.ready)
    assert models.log.count(("fetch", "model-1")) == 3
    assert models.kept == {"model-1": None}


async def test_alias_that_moves_is_fetched_and_loaded_before_the_earlier_model_goes():
    models = FakeModels(prod=model(1))
    async with running(models, "prod", follow=True) as (preload, until, _):
        await until(lambda: preload.ready)
        models.stuck["model-2"] = asyncio.Event()
        models.aliases["prod"] = model(2)
        preload.wake()
        await until(lambda: ("fetch", "model-2") in models.log)
        # Until the next one is loaded, this is what the alias means here.
        assert preload.means("prod") == model(1)
        assert (preload.ready, models.loaded) == (True, {"model-1": None})
        models.stuck["model-2"].set()
        await until(lambda: ("let go", "model-1") in models.log)
        assert preload.means("prod") == model(2)
    order = [step for step in models.log if step[1] == "model-2" or step[0] == "let go"]
    assert order == [("fetch", "model-2"), ("load", "model-2"), ("let go", "model-1")]
    assert models.kept == {"model-2": None}


async def test_without_follow_a_moved_alias_changes_nothing():
    models = FakeModels(prod=model(1))
    async with running(models, "prod") as (preload, until, task):
        await until(lambda: preload.ready)
        models.aliases["prod"] = model(2)
        preload.wake()
        await task
    assert preload.means("prod") == model(1)
    assert ("fetch", "model-2") not in models.log


async def test_fetch_is_given_up_when_the_alias_moves_on_meanwhile():
    models = FakeModels(prod=model(1))
    models.stuck["model-1"] = asyncio.Event()
    async with running(models, "prod", follow=True) as (preload, until, _):
        await until(lambda: ("fetch", "model-1") in models.log)
        models.aliases["prod"] = model(2)
        preload.wake()
        await until(lambda: preload.ready)
    assert preload.means("prod") == model(2)
    assert models.kept == {"model-2": None}


async def test_model_that_another_name_still_means_is_not_let_go():
    models = FakeModels(prod=model(1), stable=model(1))
    async with running(models, "prod", "stable", follow=True) as (preload, until, _):
        await until(lambda: preload.ready)
        models.aliases["prod"] = model(2)
        preload.wake()
        await until(lambda: preload.means("prod") == model(2))
        await until(lambda: preload.models[0].info().state == "ready")
    assert ("let go", "model-1") not in models.log
    assert models.loaded.keys() == {"model-1", "model-2"}


async def test_earlier_model_stays_while_the_next_can_not_be_loaded():
    models = FakeModels(prod=model(1))
    async with running(models, "prod", follow=True) as (preload, until, _):
        await until(lambda: preload.ready)
        models.aliases["prod"] = model(2)
        models.errors = [LocalError("the disk is full")] * 1000
        preload.wake()
        await until(lambda: preload.models[0].failures > 2)
        assert preload.ready
        assert preload.means("prod") == model(1)
        assert "disk is full" in preload.models[0].info().note
        assert ("let go", "model-1") not in models.log
        models.errors.clear()
        await until(lambda: preload.means("prod") == model(2))


async def test_room_that_can_not_be_read_does_not_stop_what_is_being_fetched():
    models = FakeModels(prod=model(1))
    models.stuck["model-1"] = asyncio.Event()
    async with running(models, "prod", follow=True) as (preload, until, _):
        await until(lambda: ("fetch", "model-1") in models.log)
        del models.aliases["prod"]
        preload.wake()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        models.stuck["model-1"].set()
        await until(lambda: preload.ready)
    assert models.log.count(("fetch", "model-1")) == 1


async def test_bug_of_ours_is_shown_and_tried_again(caplog):
    models = FakeModels(prod=model(1))
    models.errors = [ZeroDivisionError("a bug")]
    async with running(models, "prod") as (preload, until, _):
        await until(lambda: preload.ready)
    assert "ZeroDivisionError" in caplog.text
    assert models.log.count(("fetch", "model-1")) == 2


async def test_model_that_failed_stays_kept_until_the_alias_moves_on():
    models = FakeModels(prod=model(1))
    models.errors = [RemoteError("nobody has the rest")] * 1000
    async with running(models, "prod", follow=True) as (preload, until, _):
        await until(lambda: preload.models[0].failures > 2)
        assert models.kept == {"model-1": None}
        assert ("let go", "model-1") not in models.log
        models.aliases["prod"] = model(2)
        models.errors.clear()
        preload.wake()
        await until(lambda: preload.means("prod") == model(2))
    assert models.kept == {"model-2": None}
