"""Answers requests: where it is best, and on elsewhere when a runner fails, as one stream.

Who runs it is planned by ``protocol.offload``. A runner that fails, hangs, is too slow for its
first token or loses the model is left for the next one, which is asked to go on after the tokens
that were told (``inference.continuation``): under greedy choice or a fixed seed the same come that
the first would have made. A request that draws without a seed is given one here for that.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from dreamer.daemon.inference.continuation import Continuation
from dreamer.daemon.inference.requests import Ended, Event, GenerateRequest, Text
from dreamer.daemon.inference.tensors import EmbedRequest, InferRequest
from dreamer.daemon.offload.asking import OffloadAsking
from dreamer.daemon.offload.attempt import Attempt, first_to_answer
from dreamer.daemon.offload.candidates import Candidates, Scout
from dreamer.daemon.offload.counts import OffloadCounts
from dreamer.daemon.offload.local_models import LocalModels
from dreamer.daemon.offload.tensor_runs import TensorRuns
from dreamer.daemon.offload.tried import Tried
from dreamer.daemon.offload.versions import least_version, understood
from dreamer.daemon.offload.waiting import UnreadAnswerError
from dreamer.daemon.room.presence import offload_version
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.surfaces.inference import (
    Ran,
    RunEnded,
    RunEvent,
    RunOptions,
    RunStarted,
    RunText,
)
from dreamer.protocol.errors import DreamerError, InputError, NoMatchError, RemoteError
from dreamer.protocol.ids import NodeId, RoomId, short
from dreamer.protocol.offload import Choice, Work, plan
from dreamer.protocol.offload_limits import (
    OFFLOAD_ASSUMED_ANSWER_TOKENS,
    OFFLOAD_ASSUMED_BYTES_PER_TOKEN,
    OFFLOAD_FIRST_TOKEN_TIMEOUT_S,
    OFFLOAD_HANDOVERS_MAX,
    OFFLOAD_LAST_TIMEOUT_S,
    OFFLOAD_LATE_FACTOR,
)
from dreamer.protocol.registry.view import Model


@dataclass
class Runs:
    """Runs models for this node's user."""

    node_id: NodeId
    node_name: str
    here: LocalModels
    scout: Scout
    first_token_timeout_s: float = OFFLOAD_FIRST_TOKEN_TIMEOUT_S
    asking: dict[RoomId, OffloadAsking] = field(default_factory=dict)
    counts: OffloadCounts = field(default_factory=OffloadCounts)
    tensors: TensorRuns = field(init=False)

    def __post_init__(self) -> None:
        self.tensors = TensorRuns(
            *(self.node_id, self.node_name, self.here, self.scout, self.counts),
            self.first_token_timeout_s,
        )

    async def generate(
        self, session: RoomSession, model: Model, request: GenerateRequest, options: RunOptions
    ) -> AsyncGenerator[RunEvent, None]:
        """Yield who runs it, then the text as it comes, then how it ended.

        Raises:
            InputError: no runner could answer such a request.
            RemoteError: nobody can run it as asked.
            DreamerError: the last runner that could be tried failed.
        """
        request.check()
        answer = _Answer(self, session, model, _seeded(request), options)
        async with aclosing(answer.run()) as events:
            async for event in events:
                yield event

    async def infer(
        self, session: RoomSession, model: Model, request: InferRequest, options: RunOptions
    ) -> Ran:
        """Run a graph on tensors; raises as ``generate``."""
        return await self.tensors.run(session, model, request, options)

    async def embed(
        self, session: RoomSession, model: Model, request: EmbedRequest, options: RunOptions
    ) -> Ran:
        """Turn texts into vectors; raises as ``generate``."""
        return await self.tensors.run(session, model, request, options)


class _Answer:
    """One request on its way, over as many runners as it takes."""

    def __init__(
        self,
        runs: Runs,
        session: RoomSession,
        model: Model,
        request: GenerateRequest,
        options: RunOptions,
    ) -> None:
        self._runs = runs
        self._session = session
        self._model = model
        self._asked = request
        self._options = options
        self._told = Continuation(request)
        self._tried = Tried(session.links.link)
        self._began = time.monotonic()
        self._first_token_s = 0.0
        self._candidates: Candidates | None = None

    async def run(self) -> AsyncGenerator[RunEvent, None]:
        """Yield the events of the answer."""
        failed: DreamerError | None = None
        for _ in range(OFFLOAD_HANDOVERS_MAX):
            group, left = await self._choose(failed)
            if failed is not None and self._told.begun:
                self._runs.counts.handovers += 1
            try:
                async with aclosing(self._attempt(group, left)) as events:
                    async for event in events:
                        yield event
                return
            except UnreadAnswerError:
                raise
            except DreamerError as error:
                # What is wrong with the request is wrong everywhere; but one that was answered
                # half the way is not, whatever this runner thinks of it.
                if _wrong_everywhere(error) and not self._told.begun:
                    raise
                failed = _as_told(group) if _wrong_everywhere(error) else error
        assert failed is not None, "it was tried at least once"
        raise failed

    async def _choose(self, failed: DreamerError | None) -> tuple[list[Choice], bool]:
        """Return whom to start now, and whether there is anybody else to go on with.

        Raises:
            DreamerError: there is nobody; with ``failed`` if somebody was tried.
        """
        try:
            self._candidates = await self._runs.scout.find(
                *(self._session, self._model, self._options.prefer, self._tried.excluded),
                version=least_version(self._asked),
            )
            could = self._candidates
            chosen = plan(
                *(self._options.prefer, could.here, could.peers, self._model.name),
                *(_work(self._asked, self._model, self._told.tokens), self._runs.scout.asking),
            )
        except DreamerError as error:
            raise (failed or error) from None
        race = chosen.race and not self._tried.asked
        group = list(chosen.choices[: 2 if race else 1])
        self._tried.add(choice.node for choice in group)
        return group, len(chosen.choices) > len(group)

    async def _attempt(self, group: list[Choice], left: bool) -> AsyncGenerator[RunEvent, None]:
        """Yield what comes of starting these; ends with RunEnded, or fails."""
        counts = self._runs.counts
        request = self._told.request()
        attempts = [self._start(choice, request) for choice in group]
        counts.races += len(attempts) > 1
        try:
            patience_s = self._patience_s(group, left, first=True)
            winner, event = await first_to_answer(attempts, patience_s)
            counts.race_losers += len(attempts) - 1
            if not self._told.begun:
                self._first_token_s = time.monotonic() - self._began
                counts.first_token(winner.choice, self._first_token_s)
            yield self._started(winner)
            while not isinstance(event, Ended):
                if (piece := self._told.take(event)) is not None:
                    yield _said(piece)
                event = await winner.next(self._patience_s([winner.choice], left))
            if (rest := self._told.flush()) is not None:
                yield _said(rest)
            # Before the last event: few listen on after it.
            if self._tried.asked == len(group):
                counts.ended(winner.choice, time.monotonic() - self._began)
            yield self._ended(event)
        except DreamerError as error:
            for choice in group:
                counts.lost(choice, error.code)
            raise
        finally:
            for attempt in attempts:
                await attempt.close()

    def _patience_s(self, group: list[Choice], left: bool, first: bool = False) -> float | None:
        """Return how long a token may take; whoever is the last to be asked may take its time.

        The ``first`` of one that goes on comes behind all that were told, written once more. A peer
        that hangs is noticed by its silence all the same, and this node by its pool.
        """
        if any(choice.local for choice in group):
            return None
        patience_s = self._runs.first_token_timeout_s
        replay_s = max(choice.estimate.replay_s for choice in group) if first else 0.0
        patience_s = patience_s if left else max(patience_s, OFFLOAD_LAST_TIMEOUT_S)
        return patience_s + OFFLOAD_LATE_FACTOR * replay_s

    def _start(self, choice: Choice, request: GenerateRequest) -> Attempt:
        self._runs.counts.sent(choice)
        room, manifest_id = self._session.room_id, self._model.manifest_id
        events: AsyncGenerator[Event, None]
        if choice.local:
            keep_alive_s = self._options.keep_alive_s
            events = self._runs.here.generate(room, manifest_id, request, keep_alive_s)
            return Attempt(choice, self._runs.node_name, events)
        assert self._candidates is not None, "peers are chosen from the candidates"
        link = self._candidates.links[choice.node]
        request = understood(request, offload_version(link.capabilities))
        events = self._runs.asking[room].generate(link, manifest_id, request)
        return Attempt(choice, link.name, events)

    def _started(self, winner: Attempt) -> RunStarted:
        return RunStarted(
            "local" if winner.choice.local else "peer",
            winner.choice.node.hex(),
            winner.name,
            self._model.manifest_id.hex(),
            winner.prompt_tokens,
        )

    def _ended(self, event: Ended) -> RunEnded:
        seconds = time.monotonic() - self._began
        return replace(event, first_token_s=self._first_token_s, seconds=seconds)


def _wrong_everywhere(error: DreamerError) -> bool:
    return isinstance(error, InputError) and not isinstance(error, NoMatchError)


def _seeded(request: GenerateRequest) -> GenerateRequest:
    sampling = request.sampling
    if sampling.temperature == 0 or sampling.seed is not None:
        return request
    return replace(request, sampling=replace(sampling, seed=secrets.randbits(63)))


def _work(request: GenerateRequest, model: Model, told: int) -> Work:
    """Return how much there is to do; a prompt's tokens are guessed from its length."""
    texts = [text for turn in request.conversation() for text in turn.texts]
    texts += [request.raw_prompt or "", request.tools.text if request.tools else ""]
    size_bytes = sum(len(text.encode(errors="replace")) for text in texts)
    prompt = len(request.prompt_ids) or size_bytes // OFFLOAD_ASSUMED_BYTES_PER_TOKEN + 1
    answer = min(request.max_tokens, OFFLOAD_ASSUMED_ANSWER_TOKENS)
    return Work(prompt, max(1, answer), model.size_bytes, told)


def _said(piece: Text) -> RunText:
    return RunText(piece.text, len(piece.token_ids), piece.logprobs)


def _as_told(group: list[Choice]) -> DreamerError:
    names = " and ".join(short(choice.node) for choice in group)
    return RemoteError(f"{names} can't go on with an answer that another began: run it again")
