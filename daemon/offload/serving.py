"""Runs models for other members, where the node's owner has turned that on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

from dreamer.daemon.inference.requests import Ended, Event, GenerateRequest, Text
from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import DreamerError, ForbiddenError, LocalError
from dreamer.protocol.ids import ManifestId, short
from dreamer.protocol.inference_limits import (
    GENERATE_WORKING_INTERVAL_S,
    GENERATIONS_MAX_PER_LINK,
)
from dreamer.protocol.link import messages
from dreamer.protocol.link.messages import Failed, Generate, Message, StopGenerating, Working

log = logging.getLogger(__name__)


class Generator(Protocol):
    """What serving needs of inference: run a model of this room that is held here."""

    def __call__(
        self, manifest_id: ManifestId, request: GenerateRequest, /
    ) -> AsyncGenerator[Event, None]:
        """Yield the answer's events; raises NoMatchError when the model is not held here."""
        ...


class OffloadServing(LinkListener):
    """One room's requests from peers; a listener of its links."""

    def __init__(self, generate: Generator, allowed: Callable[[], bool], tasks: TaskSet) -> None:
        self._generate = generate
        self._allowed = allowed
        self._tasks = tasks
        self._running: dict[tuple[int, int], asyncio.Task[None]] = {}

    def uses(self, link: Link) -> bool:
        """Return whether this node generates something for the peer."""
        return any(number == link.number for number, _ in self._running)

    def link_down(self, link: Link, reason: str) -> None:
        """Stop generating for a peer that is gone."""
        for (number, _), task in list(self._running.items()):
            if number == link.number:
                task.cancel()

    def message(self, link: Link, message: Message) -> None:
        """Take a request."""
        if isinstance(message, StopGenerating):
            if task := self._running.get((link.number, message.request)):
                task.cancel()
        elif isinstance(message, Generate):
            self._begin(link, message)

    def _begin(self, link: Link, asked: Generate) -> None:
        key = (link.number, asked.request)
        mine = sum(1 for number, _ in self._running if number == link.number)
        if mine >= GENERATIONS_MAX_PER_LINK or key in self._running:
            busy = LocalError("this node runs as many requests of yours as it takes: try later")
            _refuse(link, asked.request, busy)
            return
        task = self._tasks.start(self._run(link, asked))
        self._running[key] = task
        task.add_done_callback(lambda _: self._running.pop(key, None))

    async def _run(self, link: Link, asked: Generate) -> None:
        log.info("running %s for %s", asked.manifest.hex()[:8], short(link.peer))
        request = GenerateRequest(prompt=asked.prompt, max_tokens=asked.max_tokens)
        try:
            if not self._allowed():
                raise ForbiddenError("this node does not run models for others")
            request.check()
            generation = self._generate(ManifestId(asked.manifest), request)
            async with _saying_so(link, asked.request), aclosing(generation) as events:
                async for event in events:
                    _pass_on(link, asked.request, event)
        except DreamerError as error:
            _refuse(link, asked.request, error)


@asynccontextmanager
async def _saying_so(link: Link, request: int) -> AsyncIterator[None]:
    """Tell the peer now and then that it is worked at: queueing, loading, reading the prompt."""
    saying = asyncio.create_task(_say_so(link, request))
    try:
        yield
    finally:
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)


async def _say_so(link: Link, request: int) -> None:
    while True:
        link.send(Working(request))
        await asyncio.sleep(GENERATE_WORKING_INTERVAL_S)


def _refuse(link: Link, request: int, error: DreamerError) -> None:
    link.send(Failed(request, error.code, str(error)))


def _pass_on(link: Link, request: int, event: Event) -> None:
    match event:
        case Text(text, token_ids):
            link.send(messages.Text(request, text, len(token_ids)))
        case Ended(reason, prompt_tokens, completion_tokens, first_token_s, seconds):
            link.send(
                messages.Ended(
                    request,
                    reason,
                    prompt_tokens,
                    completion_tokens,
                    round(first_token_s * 1e6),
                    round(seconds * 1e6),
                )
            )
