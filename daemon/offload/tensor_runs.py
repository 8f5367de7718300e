"""Answers requests for tensors and embeddings: where it is best, or shared out over several nodes.

A runner that fails is left for the next one. A batch that can be cut (texts to embed; rows of a
graph that the request says are apart) is shared out by rates if this node asks peers; what a lost
node was to do is shared out again among the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dreamer.daemon.inference.tensor_checks import check_embed, check_infer
from dreamer.daemon.inference.tensors import EmbedRequest, InferRequest
from dreamer.daemon.links.link import Link
from dreamer.daemon.offload.batches import Answer, Request, item_sizes, joined, part
from dreamer.daemon.offload.candidates import Candidates, Scout
from dreamer.daemon.offload.counts import OffloadCounts
from dreamer.daemon.offload.local_models import LocalModels
from dreamer.daemon.offload.tensor_links import TensorAsking
from dreamer.daemon.offload.tried import Tried
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.surfaces.inference import Ran, RunOptions, RunStarted
from dreamer.protocol.errors import DreamerError, InputError, NoMatchError, RemoteError
from dreamer.protocol.ids import NodeId, RoomId, short
from dreamer.protocol.offload import Choice, Runner, Work, estimate, plan
from dreamer.protocol.offload_limits import (
    OFFLOAD_ASSUMED_BYTES_PER_TOKEN,
    OFFLOAD_FIRST_TOKEN_TIMEOUT_S,
    OFFLOAD_LAST_TIMEOUT_S,
    OFFLOAD_LATE_FACTOR,
    OFFLOAD_SPREAD_LEAST_ITEMS,
)
from dreamer.protocol.registry.view import Model
from dreamer.protocol.spread import Hand, Share, spread


@dataclass
class TensorRuns:
    """Runs models that have one answer for this node's user."""

    node_id: NodeId
    node_name: str
    here: LocalModels
    scout: Scout
    counts: OffloadCounts
    patience_s: float = OFFLOAD_FIRST_TOKEN_TIMEOUT_S
    asking: dict[RoomId, TensorAsking] = field(default_factory=dict)

    async def run(
        self, session: RoomSession, model: Model, request: Request, options: RunOptions
    ) -> Ran:
        """Return the answer and who gave it: of several, whoever did most.

        Raises:
            InputError: no runner could answer such a request.
            RemoteError: nobody can run it as asked.
            DreamerError: the last runner that could be tried failed.
        """
        failed: DreamerError | None = None
        if isinstance(request, InferRequest):
            # Before anybody is asked: what no graph could answer is no failure of a node.
            check_infer(request)
            alone = None if request.rows_apart else self.scout.alone(session, model, options.prefer)
            if alone is not None:
                # Small graphs take less time than to look for others would.
                choice = Choice(alone.node, True, estimate(alone, Work(1, 1, model.size_bytes)))
                try:
                    return await self._alone(session, model, request, options, choice)
                except DreamerError as error:
                    if _wrong_everywhere(error):
                        raise
                    failed = error
        else:
            check_embed(request)
        return await _Run(self, session, model, request, options).run(failed)

    async def _alone(
        self,
        session: RoomSession,
        model: Model,
        request: InferRequest,
        options: RunOptions,
        choice: Choice,
    ) -> Ran:
        self.counts.sent(choice)
        began = time.monotonic()
        asked = session.room_id, model.manifest_id
        try:
            answer = await self.here.infer(*asked, request, options.keep_alive_s)
        except DreamerError as error:
            self.counts.lost(choice, error.code)
            raise
        self.counts.ended(choice, time.monotonic() - began)
        return Ran(self.started_here(model), answer)

    def started_here(self, model: Model) -> RunStarted:
        """Say that this node runs a model."""
        return RunStarted("local", self.node_id.hex(), self.node_name, model.manifest_id.hex())


class _Run:
    """One request on its way."""

    def __init__(
        self,
        runs: TensorRuns,
        session: RoomSession,
        model: Model,
        request: Request,
        options: RunOptions,
    ) -> None:
        self._runs = runs
        self._session = session
        self._model = model
        self._request = request
        self._options = options
        self._sizes = item_sizes(request)
        self._tried = Tried(session.links.link)

    async def run(self, failed: DreamerError | None) -> Ran:
        """Run it; with what failed if this node was tried already, and nobody else."""
        if failed is not None:
            self._tried.add([self._runs.node_id])
            return await self._one_after_another(failed)
        enough = len(self._sizes) >= 2 * OFFLOAD_SPREAD_LEAST_ITEMS
        if enough and (candidates := await self._candidates()).peers:
            try:
                return await self._spread(candidates)
            except InputError:
                # Alone it runs after all, or is told what is wrong with it in its own terms.
                self._tried.forget()
        return await self._one_after_another(None)

    # As a whole

    async def _one_after_another(self, failed: DreamerError | None) -> Ran:
        while True:
            try:
                candidates = await self._candidates()
                choice, *others = self._plan(candidates)
            except DreamerError as error:
                raise (failed or error) from None
            self._tried.add([choice.node], candidates.links)
            began = time.monotonic()
            try:
                answer = await self._on(choice, candidates.links, self._request, bool(others))
            except DreamerError as error:
                if _wrong_everywhere(error):
                    raise
                failed = error
                continue
            self._runs.counts.ended(choice, time.monotonic() - began)
            return Ran(self._started(choice.node, candidates.links), answer)

    # Shared out

    async def _spread(self, candidates: Candidates) -> Ran:
        """Share the items out; what a node fails to do, again among the others."""
        left, done = list(range(len(self._sizes))), []
        links, failed = dict(candidates.links), None
        while left:
            try:
                could = await self._candidates()
                links |= could.links
                choices = {choice.node: choice for choice in self._plan(could)}
            except DreamerError as error:
                raise (failed or error) from None
            shares = self._shares([self._sizes[place] for place in left], could, choices)
            self._runs.counts.spreads += len(shares) > 1
            parts = [left[share.first : share.first + share.count] for share in shares]
            asked = [choices[share.node] for share in shares]
            answers = await self._together(asked, parts, links, others=len(choices) > 1)
            left = []
            for share, places, answer in zip(shares, parts, answers, strict=True):
                if isinstance(answer, DreamerError):
                    # Its link may be lost by now, or another: that is not the one that failed.
                    self._tried.add([share.node], links)
                    failed, left = answer, left + places
                else:
                    done.append((share.node, places, answer))
        answer = joined([(places, one) for _, places, one in done])
        return Ran(self._started(_most(done), links), answer)

    async def _together(
        self,
        choices: Sequence[Choice],
        parts: Sequence[Sequence[int]],
        links: Mapping[NodeId, Link],
        others: bool,
    ) -> list[Answer | DreamerError]:
        """Run the parts side by side; an InputError ends them all.

        ``others`` says that what one fails to do can be done by another.
        """

        async def one(choice: Choice, places: Sequence[int]) -> Answer | DreamerError:
            try:
                return await self._on(choice, links, part(self._request, places), others)
            except DreamerError as error:
                if _wrong_everywhere(error):
                    raise
                return error

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(one(choice, places))
                    for choice, places in zip(choices, parts, strict=True)
                ]
        except* InputError as wrong:
            raise wrong.exceptions[0] from None
        return [task.result() for task in tasks]

    def _shares(
        self, sizes: Sequence[float], could: Candidates, choices: Mapping[NodeId, Choice]
    ) -> tuple[Share, ...]:
        runners = [one for one in (could.here, *could.peers) if one and one.node in choices]
        # Here first: of equal shares, what stays leaves nobody something to see.
        hands = [self._hand(one, sum(sizes) / len(sizes)) for one in runners]
        return spread(sizes, hands, OFFLOAD_SPREAD_LEAST_ITEMS)

    def _hand(self, runner: Runner, item: float) -> Hand:
        """Return what is known of a runner's speed, in units of ``item_sizes``."""
        one = estimate(runner, Work(max(1, round(self._tokens(item))), 1, self._model.size_bytes))
        rate = runner.prefill_tokens_s
        if rate is not None and isinstance(self._request, EmbedRequest):
            rate *= OFFLOAD_ASSUMED_BYTES_PER_TOKEN
        return Hand(runner.node, rate, one.rtt_s + one.queue_s + one.load_s)

    # Both

    async def _candidates(self) -> Candidates:
        return await self._runs.scout.find(
            self._session, self._model, self._options.prefer, self._tried.excluded
        )

    def _plan(self, could: Candidates) -> tuple[Choice, ...]:
        tokens = max(1, round(self._tokens(sum(self._sizes))))
        work = Work(tokens, 1, self._model.size_bytes)
        asking = self._runs.scout.asking
        return plan(
            self._options.prefer, could.here, could.peers, self._model.name, work, asking
        ).choices

    def _tokens(self, size: float) -> float:
        """Return how many tokens, or rows, items of this size are."""
        embeds = isinstance(self._request, EmbedRequest)
        return size / OFFLOAD_ASSUMED_BYTES_PER_TOKEN if embeds else size

    def _patience_s(self, choice: Choice, others: bool) -> float:
        """Return how long a peer may take; longer if nobody else could be asked."""
        patience_s = self._runs.patience_s + OFFLOAD_LATE_FACTOR * choice.estimate.total_s
        return patience_s if others else max(patience_s, OFFLOAD_LAST_TIMEOUT_S)

    async def _on(
        self,
        choice: Choice,
        links: Mapping[NodeId, Link],
        request: Request,
        others: bool,
    ) -> Answer:
        self._runs.counts.sent(choice)
        patience_s = 0.0
        try:
            if choice.local:
                return await self._here(request)
            patience_s = self._patience_s(choice, others)
            asking = self._runs.asking[self._session.room_id]
            asked = self._model.manifest_id, request, patience_s
            return await asking.run(links[choice.node], *asked)
        except TimeoutError:
            self._runs.counts.lost(choice, RemoteError.code)
            raise RemoteError(
                f"{short(choice.node)} gave no answer within {patience_s:.0f} s: another is asked"
            ) from None
        except DreamerError as error:
            self._runs.counts.lost(choice, error.code)
            raise

    async def _here(self, request: Request) -> Answer:
        here, keep_alive_s = self._runs.here, self._options.keep_alive_s
        asked = self._session.room_id, self._model.manifest_id
        if isinstance(request, InferRequest):
            return await here.infer(*asked, request, keep_alive_s)
        return await here.embed(*asked, request, keep_alive_s)

    def _started(self, node: NodeId, links: Mapping[NodeId, Link]) -> RunStarted:
        if node == self._runs.node_id:
            return self._runs.started_here(self._model)
        return RunStarted("peer", node.hex(), links[node].name, self._model.manifest_id.hex())


def _wrong_everywhere(error: DreamerError) -> bool:
    # That a peer has the model no more is only so there.
    return isinstance(error, InputError) and not isinstance(error, NoMatchError)


def _most(done: Sequence[tuple[NodeId, Sequence[int], Answer]]) -> NodeId:
    return max(done, key=lambda one: len(one[1]))[0]
