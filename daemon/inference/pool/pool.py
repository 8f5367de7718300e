"""The models that this node runs, in worker processes: generations, tensors, embeddings.

A worker takes several requests at once, further ones wait in a bounded line. When one model more
is asked for than may be in memory, another is ended, and what it took goes back to the system. A
worker that dies or hangs is replaced, and what it was asked is asked of the next one: a generation
goes on after the last token that was told. This module and what it imports stay free of numpy and
ONNX Runtime: dreamerd itself never loads them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from dreamer.daemon.inference import channel
from dreamer.daemon.inference.channel import Fields
from dreamer.daemon.inference.pool.answering import Answering, Times
from dreamer.daemon.inference.pool.counted import Asked, Pending, SlotHeld
from dreamer.daemon.inference.pool.process import OneAnswer, WorkerLostError
from dreamer.daemon.inference.pool.reports import (
    Estimate,
    LoadedModel,
    estimate,
    loaded_model,
    model_statistics,
    pool_info,
)
from dreamer.daemon.inference.pool.seat import PINNED, ModelWorker, Seat
from dreamer.daemon.inference.pool.seats import Seats
from dreamer.daemon.inference.pool.settings import PoolSettings
from dreamer.daemon.inference.pool.statistics import Durations, Tally
from dreamer.daemon.inference.requests import Event, GenerateRequest
from dreamer.daemon.inference.tensor_checks import check_embed, check_infer
from dreamer.daemon.inference.tensors import Embedded, EmbedRequest, Inferred, InferRequest
from dreamer.daemon.surfaces.inference import ModelStatistics, PoolInfo, Signature
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import InputError, LocalError

__all__ = ["PINNED", "Estimate", "LoadedModel", "Pool", "PoolSettings"]

# The graph of a sentence embedding can be run on tensors, too.
_ANSWERS = {"decoder": ("generate",), "tensor": ("infer",), "embedding": ("embed", "infer")}
_WHAT_IT_IS = {
    "decoder": "this model writes text: ask it for a completion or a chat",
    "tensor": "this model takes tensors: ask it for an inference",
    "embedding": "this model embeds texts: ask it for embeddings",
}


class Pool:
    """Runs models. Use it from one event loop; ``close`` it at the end.

    Each call takes the model's directory and id. ``keep_alive_s`` is how long the model stays in
    memory after the request: None leaves that as it is, 0 unloads it, a negative number pins it.
    """

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._seats = Seats(settings)
        self._pending = Pending(self._seats.loading.durations)
        self._tasks = TaskSet()

    @property
    def changed(self) -> list[Callable[[], None]]:
        """What is called when a model comes or goes, or a line gets longer or shorter."""
        return self._seats.changed

    async def generate(
        self,
        model_dir: Path,
        manifest_id: str,
        request: GenerateRequest,
        keep_alive_s: float | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Yield ``Started``, ``Text`` as it comes, ``Ended``. Closing the generator cancels.

        Raises:
            InputError: the request or the model can't be used.
            ForbiddenError: the model wants what it may not have.
            BusyError: as many requests wait as may.
            LocalError: the workers died or hung; the next request tries anew.
        """
        request.check()
        answering = Answering(request, manifest_id, self.durations)
        with self._request(model_dir, manifest_id, keep_alive_s) as asked:
            while not answering.finished:
                try:
                    async with (
                        self._turn(asked.seat, "generate", answering.times) as worker,
                        aclosing(answering.run(asked.seat, worker)) as events,
                    ):
                        async for event in events:
                            asked.finished = answering.finished
                            yield event
                except WorkerLostError:
                    self._seats.require_open()
                    if not answering.may_go_on():
                        raise
                    asked.seat.tally.retries += 1

    async def infer(
        self,
        model_dir: Path,
        manifest_id: str,
        request: InferRequest,
        keep_alive_s: float | None = None,
    ) -> Inferred:
        """Run a graph on tensors; raises as ``generate``."""
        check_infer(request)
        times = Times()
        with self._request(model_dir, manifest_id, keep_alive_s) as asked:
            fields = await self._once(asked.seat, "infer", channel.infer_fields(request), times)
            answer = channel.inferred_from(fields)
            asked.seat.tally.computed(answer.compute_s, rows=request.rows)
            asked.finished = True
            return Inferred(answer.outputs, times.queue_s, times.load_s, answer.compute_s)

    async def embed(
        self,
        model_dir: Path,
        manifest_id: str,
        request: EmbedRequest,
        keep_alive_s: float | None = None,
    ) -> Embedded:
        """Turn texts into vectors; raises as ``generate``."""
        check_embed(request)
        times = Times()
        with self._request(model_dir, manifest_id, keep_alive_s) as asked:
            fields = await self._once(asked.seat, "embed", channel.embed_fields(request), times)
            answer = channel.embedded_from(fields)
            asked.seat.tally.computed(answer.compute_s, answer.prompt_tokens)
            asked.finished = True
            return replace(answer, queue_s=times.queue_s, load_s=times.load_s)

    async def signature(self, model_dir: Path, manifest_id: str) -> Signature:
        """Return what a model takes and gives, loading it if it never was; raises as ``load``."""
        seat = self._seats.seat(manifest_id)
        if seat.card is None:
            await self.load(model_dir, manifest_id, keep_alive_s=None)
        assert seat.card is not None, "a model that was loaded has told what it is"
        return seat.card.signature

    async def load(
        self,
        model_dir: Path,
        manifest_id: str,
        instead_of: str | None = None,
        keep_alive_s: float | None = PINNED,
    ) -> None:
        """Load a model; to stay, as it stands: it is not ended for being idle.

        ``instead_of`` is a model that will be evicted after this: until then one model more than
        ``max_models`` may be loaded, so that there is no moment in which neither is.

        Raises:
            InputError: the model can't be used.
            LocalError: as many are to stay already, or its worker failed.
        """
        seat = self._seats.seat(manifest_id)
        seat.model_dir = model_dir
        if keep_alive_s is not None and keep_alive_s < 0:
            self._require_place_to_stay(manifest_id, instead_of)
        self._seats.keep(seat, keep_alive_s)
        try:
            await self._seats.load(seat, instead_of)
        except BaseException:
            seat.keep_alive_s = None
            raise

    def loaded(self) -> list[LoadedModel]:
        """Return the models in memory, by manifest id."""
        held = [seat for seat in self._seats.all() if seat.held]
        return sorted((loaded_model(seat) for seat in held), key=lambda model: model.manifest_id)

    def seated(self) -> list[str]:
        """Return the models in memory, and those that are loaded or asked for at this moment."""
        return [
            seat.manifest_id
            for seat in self._seats.all()
            if seat.held or seat.waiting or seat.loading is not None
        ]

    @property
    def pending(self) -> int:
        """Requests under way or waiting."""
        return self._pending.count

    def statistics(self) -> list[ModelStatistics]:
        """Return the models that are or were loaded, by manifest id; the caller names them."""
        seats = [seat for seat in self._seats.all() if seat.tally.requests or seat.tally.loads]
        told = [
            model_statistics(seat, self._seats.kept_s(seat), self._seats.loading.devices)
            for seat in seats
        ]
        return sorted(told, key=lambda model: model.manifest_id)

    def is_loaded(self, manifest_id: str) -> bool:
        """Return whether a worker has this model and may be asked."""
        seat = self._seats.known(manifest_id)
        return seat is not None and seat.takes_requests

    def estimate(self, manifest_id: str) -> Estimate:
        """Return what to expect of a request to this model now; no I/O."""
        seat = self._seats.known(manifest_id) or Seat(manifest_id)
        return estimate(seat, self._seats.loading, self._settings)

    def info(self) -> PoolInfo:
        """Return what waits, and what there is to run on."""
        return pool_info(self._seats.queued, self._seats.loading, self._settings)

    @property
    def durations(self) -> Durations:
        """How long requests and their parts took, all models together."""
        return self._seats.loading.durations

    @property
    def spare_pids(self) -> list[int]:
        """The workers that were started ahead."""
        return [one.pid for one in self._seats.loading.spares.processes]

    def totals(self) -> dict[str, Tally]:
        """Return what befell each model, by its id."""
        return {seat.manifest_id: seat.tally for seat in self._seats.all()}

    def name_models(self, names_of: Callable[[str], tuple[str, ...]]) -> None:
        """Have models be known by their aliases and names, too, for the GPU that they prefer."""
        self._seats.loading.names_of = names_of

    def keep_spares(self) -> None:
        """Start the spare workers: this node has models that it may be asked to run."""
        self._seats.loading.begin()

    async def evict(self, manifest_id: str) -> None:
        """End a model's workers once the requests before this call are done."""
        if (seat := self._seats.known(manifest_id)) is not None:
            await self._seats.evict(seat)

    async def close(self) -> None:
        """End every worker now; requests under way fail."""
        await self._seats.close()
        await self._tasks.close()

    def _request(self, model_dir: Path, manifest_id: str, keep_alive_s: float | None) -> Asked:
        """Begin a request, which is counted, whatever comes of it."""
        self._seats.require_open()
        seat = self._seats.seat(manifest_id)
        seat.model_dir = model_dir
        self._seats.keep(seat, keep_alive_s)
        return Asked(self._seats, self._pending, seat)

    @asynccontextmanager
    async def _turn(self, seat: Seat, kind: str, times: Times) -> AsyncIterator[ModelWorker]:
        """Wait for a slot and hold it."""
        worker = await self._slot(seat, times)
        with SlotHeld(self._seats, seat, worker):
            _require_kind(worker, kind)
            yield worker

    async def _slot(self, seat: Seat, times: Times) -> ModelWorker:
        if (free := self._seats.take(seat)) is not None:
            self.durations.queue.add(0.0)
            return free
        since = time.monotonic()
        worker = await self._seats.acquire(seat)
        before_s = times.queue_s
        times.waited(since, worker)
        seat.tally.queue_s += times.queue_s - before_s
        self.durations.queue.add(times.queue_s - before_s)
        return worker

    async def _once(self, seat: Seat, kind: str, fields: Fields, times: Times) -> Fields:
        """Ask what has one answer; once more of another worker if one is lost over it."""
        try:
            return await self._ask_once(seat, kind, fields, times)
        except WorkerLostError:
            self._seats.require_open()
            seat.tally.retries += 1
            return await self._ask_once(seat, kind, fields, times)

    async def _ask_once(self, seat: Seat, kind: str, fields: Fields, times: Times) -> Fields:
        worker = await self._slot(seat, times)
        with SlotHeld(self._seats, seat, worker) as held:
            _require_kind(worker, kind)
            asked = await worker.process.ask_once(kind, fields)
            try:
                return await asked.get()
            except asyncio.CancelledError:
                # The asker goes now; the slot is taken until the worker has answered.
                self._tasks.start(_given_up(asked, held.kept()), waited_for=True)
                raise

    def _require_place_to_stay(self, manifest_id: str, instead_of: str | None) -> None:
        others = [
            seat
            for seat in self._seats.all()
            if seat.pinned and seat.manifest_id not in (manifest_id, instead_of)
        ]
        if len(others) >= self._settings.max_models:
            raise LocalError(
                f"{len(others)} models are to stay loaded already, as many as may be: raise "
                "[inference] max_models, or preload fewer"
            )


def _require_kind(worker: ModelWorker, asked: str) -> None:
    kind = worker.card.signature.kind
    if asked not in _ANSWERS[kind]:
        raise InputError(_WHAT_IT_IS[kind])


async def _given_up(asked: OneAnswer, held: SlotHeld) -> None:
    with held:
        await asked.given_up()
