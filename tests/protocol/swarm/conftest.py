"""Transcripts of the planner: events go in with ``>>``, the commands that come out are compared."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random

import pytest

from dreamer.protocol.content.layout import Layout
from dreamer.protocol.limits import BLOCK_BYTES
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.asking import DownPace
from dreamer.protocol.swarm.download import NAMELESS, Download
from dreamer.protocol.swarm.vocabulary import (
    BlockVerified,
    BytesArrived,
    Command,
    Event,
    Fetch,
    FileFinished,
    FinishFile,
    Lane,
    SourceId,
    SourceJoined,
)


class Play:
    """A planner, the time, and every command so far."""

    def __init__(
        self,
        *sizes: int,
        present: int = 0,
        seed: int = 1,
        own: SourceId = NAMELESS,
        pace: DownPace | None = None,
    ) -> None:
        self.now = 0.0
        self.layout = Layout(sizes)
        numbers = itertools.count(1)
        self.core = Download(self.layout, present, numbers, Random(seed), self.now, own, pace)
        self.said: list[Command] = self.core.start(self.now)

    @property
    def everything(self) -> int:
        return bitfield.full(self.layout.block_count)

    def __rshift__(self, event: Event) -> list[Command]:
        commands = self.core.handle(event, self.now)
        self.said += commands
        return commands

    def after(self, seconds: float) -> Play:
        self.now += seconds
        return self

    def join(self, source: SourceId, blocks: int | None = None, lane: Lane = Lane.WEBRTC):
        held = self.everything if blocks is None else blocks
        return self >> SourceJoined(source, lane, held)

    def deliver(self, fetch: Fetch, seconds: float = 0.0) -> list[Command]:
        """Bring all of a request, spread evenly over some seconds; return what that led to."""
        answers: list[Command] = []
        for block in range(fetch.first, fetch.first + fetch.count):
            self.now += seconds / fetch.count
            self >> BytesArrived(fetch.source, BLOCK_BYTES)
            answers += self >> BlockVerified(fetch.source, fetch.request, block)
        return answers

    def finish_files(self) -> list[Command]:
        """Say that every file that was to be finished is; return what that led to."""
        done = [command for command in self.said if isinstance(command, FinishFile)]
        return [c for one in done for c in self >> FileFinished(one.file_index)]


@pytest.fixture
def play() -> Callable[..., Play]:
    """Begin a pull of files of these sizes."""
    return Play
