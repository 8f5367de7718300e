"""A generation for a handler: begun before anything is answered, ended when it is left."""

import pytest

from dreamer.daemon.rest.generation import begun
from dreamer.daemon.surfaces.inference import RunEnded, RunStarted, RunText
from dreamer.protocol.errors import LocalProtocolError, RemoteError

STARTED = RunStarted("local", "ef" * 32, "me", "ab" * 32, 5)
ENDED = RunEnded("stop", 5, 1, 0.1, 0.2)


class Work:
    """A generation of which it is seen whether it was closed."""

    def __init__(self, *events):
        self.events = events
        self.closed = False
        self.run = self._run()

    async def _run(self):
        try:
            for event in self.events:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.closed = True


async def test_events_follow_each_other_and_the_runner_is_the_last_one():
    other = RunStarted("peer", "01" * 32, "other", "ab" * 32, 5)
    work = Work(STARTED, RunText("a", 1), other, RunText("b", 1), ENDED)
    async with begun(work.run) as run:
        assert (run.started, run.first) == (STARTED, RunText("a", 1))
        found = [event async for event in run.events()]
        assert run.started == other
    assert found == [RunText("a", 1), RunText("b", 1), ENDED]


async def test_generation_that_is_left_is_closed_at_once():
    work = Work(STARTED, RunText("a", 1), RunText("b", 1), ENDED)
    async with begun(work.run):
        assert not work.closed
    assert work.closed


async def test_failure_before_the_first_piece_is_raised_on_entering():
    work = Work(STARTED, RemoteError("gone"))
    with pytest.raises(RemoteError):
        async with begun(work.run):
            pytest.fail("it never began")
    assert work.closed


async def test_answer_without_a_word_is_one():
    async with begun(Work(STARTED, ENDED).run) as run:
        assert [event async for event in run.events()] == [ENDED]


@pytest.mark.parametrize("events", [(), (STARTED,), (RunText("a", 1), ENDED)])
async def test_run_that_never_begins_is_a_bug_of_ours(events):
    with pytest.raises(LocalProtocolError):
        async with begun(Work(*events).run):
            pytest.fail("it never began")


async def test_run_that_never_ends_is_a_bug_of_ours():
    async with begun(Work(STARTED, RunText("a", 1)).run) as run:
        with pytest.raises(LocalProtocolError):
            _ = [event async for event in run.events()]
