"""One generation in the pool: from a worker's frames to events, over several workers if need be."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from dreamer.daemon.inference import channel
from dreamer.daemon.inference.channel import Done, Fields
from dreamer.daemon.inference.continuation import Continuation
from dreamer.daemon.inference.pool.seat import ModelWorker, Seat
from dreamer.daemon.inference.pool.statistics import Durations
from dreamer.daemon.inference.requests import Ended, Event, GenerateRequest, Started
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.inference_limits import INFERENCE_ATTEMPTS

SEED_BITS = 32


@dataclass
class Times:
    """What a request spent before its worker began, in seconds, over all its workers."""

    begun: float = field(default_factory=time.monotonic)
    queue_s: float = 0.0
    load_s: float = 0.0

    def waited(self, since: float, worker: ModelWorker) -> None:
        """Take in a wait that ends now: as much of it as the worker was loading is loading."""
        now = time.monotonic()
        loading_s = max(0.0, worker.ready_at - max(since, worker.load_began))
        self.load_s += loading_s
        self.queue_s += max(0.0, now - since - loading_s)


class Answering:
    """A generation. ``run`` it on one worker after another until it ends."""

    def __init__(self, request: GenerateRequest, manifest_id: str, durations: Durations) -> None:
        self.times = Times()
        self.finished = False
        self._continuation = Continuation(_seeded(request))
        self._manifest_id = manifest_id
        self._durations = durations
        self._started = False
        self._first_token_s = 0.0
        self._attempts = 0
        self._tokens_before = -1

    def may_go_on(self) -> bool:
        """Say whether another worker is to be tried after one was lost.

        A request that kills its workers must not take one after the other: two in a row that were
        lost before a new token was told are enough.
        """
        told = self._continuation.tokens
        progress, self._tokens_before = told > self._tokens_before, told
        first = self._attempts == 1
        return self._attempts < INFERENCE_ATTEMPTS and (first or progress)

    async def run(self, seat: Seat, worker: ModelWorker) -> AsyncGenerator[Event, None]:
        """Yield what the worker tells; raises what it raises, ``WorkerLostError`` among others."""
        self._attempts += 1
        request = self._continuation.request()
        exchange = worker.process.ask("generate", channel.request_fields(request))
        answered = False
        try:
            while not answered:
                kind, fields = await exchange.next()
                answered = kind == "done"
                for event in self._events(kind, fields, seat, worker):
                    yield event
        except DreamerError:
            answered = True
            raise
        finally:
            exchange.close(finished=answered)

    def _events(self, kind: str, fields: Fields, seat: Seat, worker: ModelWorker) -> list[Event]:
        if kind == "begun" and not self._started:
            self._started = True
            return [Started(self._manifest_id, fields["prompt_tokens"])]
        if kind == "text":
            self._first_token_s = self._first_token_s or self._since_begun()
            told = self._continuation.take(channel.text_from(fields))
            return [] if told is None else [told]
        if kind == "done":
            done = Done.from_fields(fields)
            self.finished = True
            seat.tally.generated(done)
            worker.speeds.count(done)
            rest = self._continuation.flush()
            return [*([] if rest is None else [rest]), self._ended(done)]
        return []

    def _ended(self, done: Done) -> Ended:
        seconds = self._since_begun()
        first_token_s = self._first_token_s or seconds
        self._durations.first_token.add(first_token_s)
        if done.decoded:
            self._durations.output_token.add(done.decode_s / done.decoded)
        return Ended(
            done.finish_reason,
            done.prompt_tokens,
            done.completion_tokens,
            first_token_s,
            seconds,
            queue_s=self.times.queue_s,
            load_s=self.times.load_s,
            prefill_s=done.prefill_s,
            decode_s=done.decode_s,
            cached_tokens=done.cached_tokens,
        )

    def _since_begun(self) -> float:
        return time.monotonic() - self.times.begun


def _seeded(request: GenerateRequest) -> GenerateRequest:
    """Fix the seed of a request that leaves it open: a worker that takes over draws the same."""
    sampling = request.sampling
    if sampling.seed is not None or sampling.temperature == 0:
        return request
    return replace(request, sampling=replace(sampling, seed=secrets.randbits(SEED_BITS)))
