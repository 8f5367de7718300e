"""The facet ``inference`` of a node: what its user and the APIs ask of models."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.daemon.inference.tensors import EmbedRequest, InferRequest
from dreamer.daemon.metrics import Metric
from dreamer.daemon.offload.local_models import LocalModels
from dreamer.daemon.offload.running import Runs
from dreamer.daemon.offload.servables import Servables
from dreamer.daemon.surfaces.inference import (
    ModelStatistics,
    PoolInfo,
    Ran,
    RunEvent,
    RunOptions,
    Servable,
    Signature,
)


@dataclass(frozen=True)
class NodeInference:
    """Models by their names, run here or on peers; see ``surfaces.inference.Inference``."""

    known: Servables
    here: LocalModels
    runs: Runs

    async def servables(self) -> list[Servable]:
        """Return the models that requests may name, newest first."""
        return await self.known.all()

    async def find(self, model: str) -> Servable:
        """Return what ``model`` means."""
        return self.known.describe(*await self.known.find(model))

    async def signature(self, model: str) -> Signature:
        """Return what a model of this node takes and gives."""
        session, meant = await self.known.find(model)
        return await self.here.signature(session.room_id, meant.manifest_id)

    async def generate(
        self, model: str, request: GenerateRequest, options: RunOptions
    ) -> AsyncGenerator[RunEvent, None]:
        """Generate text here or on a peer."""
        request.check()
        session, meant = await self.known.find(model)
        async with aclosing(self.runs.generate(session, meant, request, options)) as events:
            async for event in events:
                yield event

    async def infer(self, model: str, request: InferRequest, options: RunOptions) -> Ran:
        """Run a graph on tensors."""
        session, meant = await self.known.find(model)
        return await self.runs.infer(session, meant, request, options)

    async def embed(self, model: str, request: EmbedRequest, options: RunOptions) -> Ran:
        """Turn texts into vectors."""
        session, meant = await self.known.find(model)
        return await self.runs.embed(session, meant, request, options)

    async def load(self, model: str, keep_alive_s: float | None = None) -> None:
        """Have a model of this node loaded."""
        session, meant = await self.known.find(model)
        await self.here.load(session.room_id, meant.manifest_id, keep_alive_s)

    async def unload(self, model: str) -> None:
        """Unload a model once the requests before this are done."""
        _, meant = await self.known.find(model)
        await self.here.unload(meant.manifest_id)

    def statistics(self) -> list[ModelStatistics]:
        """Return the models that are or were loaded, by name."""
        return self.here.statistics()

    def pool(self) -> PoolInfo:
        """Return what is waiting and what is there to run on."""
        return self.here.pool.info()

    def metrics(self) -> Iterable[Metric]:
        """Return what is counted of requests that could run elsewhere."""
        return self.runs.counts.metrics()
