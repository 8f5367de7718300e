"""When a node says that it is ready, and what it says until then."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace

import pytest

from dreamer.daemon.settings.models import ModelsSection
from dreamer.daemon.worker.kind import Worker
from dreamer.daemon.worker.preload import Wanted
from dreamer.daemon.worker.readiness import NodeReadiness
from dreamer.protocol.errors import ForbiddenError, InputError, NoMatchError, RemoteError
from dreamer.protocol.ids import ManifestId, RoomId

WAIT_S = 10.0
MODEL = Wanted(ManifestId(bytes(32)), RoomId(bytes(32)), "tiny", 5)


def begun(*refs, done=True, follow=False, found=None):
    """Return a readiness whose joining and models are what the test says."""
    readiness = NodeReadiness(Worker())
    joining = SimpleNamespace(done=done, error=None, failures=0)
    models = SimpleNamespace(found=lambda wanted: found)
    readiness.begin(joining, models, ModelsSection(refs, follow), random.Random(1))
    return readiness, joining, readiness._preload.models


def test_node_with_nothing_to_bring_is_ready_once_it_began():
    readiness = NodeReadiness(Worker())
    assert readiness.info().waiting_for == ("it is starting",)
    assert begun()[0].info().ready


def test_node_waits_for_its_room_first():
    readiness, joining, _ = begun("prod", done=False)
    assert readiness.info().waiting_for == ("the room of its invitation: its tracker is asked",)
    joining.error = ForbiddenError("the invitation has expired: ask for another")
    assert "expired" in readiness.info().waiting_for[0]


def test_node_says_which_models_it_waits_for():
    readiness, _, (one, two) = begun("prod", "stable")
    one.current = MODEL
    two.error = NoMatchError("no model is called 'stable'")
    found = readiness.info()
    assert (found.ready, found.waiting_for) == (False, ("stable: no model is called 'stable'",))
    two.current = MODEL
    assert readiness.info().ready


def test_node_that_stops_is_ready_no_more():
    readiness, _, _ = begun()
    readiness.stop()
    assert (readiness.info().ready, readiness.info().waiting_for) == (False, ("it is stopping",))


async def hopeless(readiness):
    async with asyncio.timeout(WAIT_S):
        await readiness.until_ready_or_hopeless()


@pytest.mark.parametrize("error", [InputError("damaged"), ForbiddenError("refused")])
async def test_what_waiting_can_not_mend_ends_an_init_container_at_once(error):
    readiness, _, (one,) = begun("prod")
    waiting = asyncio.ensure_future(hopeless(readiness))
    await asyncio.sleep(0)
    one.error, one.failures = error, 1
    readiness.changed()
    with pytest.raises(type(error), match=str(error)):
        await waiting


@pytest.mark.parametrize("error", [RemoteError("away"), NoMatchError("no such alias")])
async def test_what_may_mend_itself_is_tried_some_times(error):
    readiness, _, (one,) = begun("prod")
    one.error, one.failures = error, 4
    waiting = asyncio.ensure_future(hopeless(readiness))
    await asyncio.sleep(0)
    assert not waiting.done()
    one.failures = 5
    readiness.changed()
    with pytest.raises(type(error), match=str(error)):
        await waiting


async def test_init_container_is_done_once_the_models_are_here():
    readiness, _, (one,) = begun("prod")
    one.error, one.failures = RemoteError("away"), 2
    waiting = asyncio.ensure_future(hopeless(readiness))
    await asyncio.sleep(0)
    one.error, one.failures, one.current = None, 0, MODEL
    readiness.changed()
    await waiting


def test_followed_alias_means_what_is_loaded_here():
    room = RoomId(bytes(32))
    session = SimpleNamespace(card=SimpleNamespace(name="lab"), room_id=room)
    found = (session, "the registry's entry")
    readiness, _, (one,) = begun("prod", follow=True, found=found)
    assert readiness.serving("prod", None) is None
    one.current = MODEL
    assert readiness.serving("prod", None) == found
    assert readiness.serving("prod", "lab") == found
    assert readiness.serving("prod", room.hex()) == found
    assert readiness.serving("prod", "depot") is None
    assert readiness.serving("other", None) is None


def test_alias_that_is_not_followed_means_what_the_registry_says():
    readiness, _, (one,) = begun("prod", found=("session", "entry"))
    one.current = MODEL
    assert readiness.serving("prod", None) is None
