"""The models that are whole on this node, run by its pool: for its user and for peers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from dreamer.daemon.inference.load_options import CPU
from dreamer.daemon.inference.pool.pool import Pool
from dreamer.daemon.inference.requests import Event, GenerateRequest
from dreamer.daemon.inference.tensors import Embedded, EmbedRequest, Inferred, InferRequest
from dreamer.daemon.state import State
from dreamer.daemon.store.store import Store
from dreamer.daemon.surfaces.inference import ModelStatistics, Signature
from dreamer.protocol.errors import InputError, NoMatchError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId, short
from dreamer.protocol.offload import Runner
from dreamer.protocol.offload_limits import OFFLOAD_USE_NOTED_INTERVAL_S


@dataclass
class LocalModels:
    """Runs models of a room that are whole here. Each call raises NoMatchError if one is not.

    ``held`` says whether all of a room's model is here.
    """

    store: Store
    state: State
    pool: Pool
    held: Callable[[RoomId, ManifestId], bool]
    clock: Callable[[], float] = time.monotonic
    _paths: dict[ManifestId, tuple[Path, float]] = field(default_factory=dict)

    async def generate(
        self,
        room: RoomId,
        manifest_id: ManifestId,
        request: GenerateRequest,
        keep_alive_s: float | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Generate text; raises as ``Pool.generate``."""
        path = await self._path(room, manifest_id)
        answer = self.pool.generate(path, manifest_id.hex(), request, keep_alive_s)
        with self._still_held(room, manifest_id):
            async with aclosing(answer) as events:
                async for event in events:
                    yield event

    async def infer(
        self,
        room: RoomId,
        manifest_id: ManifestId,
        request: InferRequest,
        keep_alive_s: float | None = None,
    ) -> Inferred:
        """Run a graph on tensors."""
        path = await self._path(room, manifest_id)
        try:
            return await self.pool.infer(path, manifest_id.hex(), request, keep_alive_s)
        except InputError:
            self._require_held(room, manifest_id)
            raise

    async def embed(
        self,
        room: RoomId,
        manifest_id: ManifestId,
        request: EmbedRequest,
        keep_alive_s: float | None = None,
    ) -> Embedded:
        """Turn texts into vectors."""
        path = await self._path(room, manifest_id)
        with self._still_held(room, manifest_id):
            return await self.pool.embed(path, manifest_id.hex(), request, keep_alive_s)

    async def signature(self, room: RoomId, manifest_id: ManifestId) -> Signature:
        """Return what a model takes and gives, loading it if need be."""
        return await self.pool.signature(await self._path(room, manifest_id), manifest_id.hex())

    async def load(
        self, room: RoomId, manifest_id: ManifestId, keep_alive_s: float | None = None
    ) -> None:
        """Have a model loaded."""
        path = await self._path(room, manifest_id)
        await self.pool.load(path, manifest_id.hex(), keep_alive_s=keep_alive_s)

    async def unload(self, manifest_id: ManifestId) -> None:
        """Unload a model once the requests before this are done."""
        await self.pool.evict(manifest_id.hex())

    def statistics(self) -> list[ModelStatistics]:
        """Return the models that are or were loaded, by name."""
        told = (replace(one, name=self._name(one)) for one in self.pool.statistics())
        return sorted(told, key=lambda one: (one.name, one.manifest_id))

    def runner(self, node: NodeId, manifest_id: ManifestId) -> Runner:
        """Return what is known of running a model on this node, whose id is ``node``."""
        known = self.pool.estimate(manifest_id.hex())
        return Runner(
            node,
            rtt_s=0.0,
            gpu=known.device != CPU,
            loaded=known.loaded,
            load_s=known.load_s,
            running=known.running,
            queued=known.queued,
            slots=known.slots,
            prefill_tokens_s=known.prefill_tokens_s,
            decode_tokens_s=known.decode_tokens_s,
        )

    def device(self, manifest_id: ManifestId) -> str:
        """Return where a model runs, or would run: ``cpu`` or ``cuda:N``."""
        return self.pool.estimate(manifest_id.hex()).device

    def _name(self, one: ModelStatistics) -> str:
        known = self.state.model(ManifestId(bytes.fromhex(one.manifest_id)))
        return known.name if known else one.manifest_id[:8]

    @contextmanager
    def _still_held(self, room: RoomId, manifest_id: ManifestId) -> Iterator[None]:
        """Tell a model that can't be used from one that was removed while the request waited."""
        try:
            yield
        except InputError:
            self._require_held(room, manifest_id)
            raise

    def _require_held(self, room: RoomId, manifest_id: ManifestId) -> None:
        if not self.held(room, manifest_id):
            raise NoMatchError(f"{short(manifest_id)} was removed from this node") from None

    async def _path(self, room: RoomId, manifest_id: ManifestId) -> Path:
        """Return a model's directory; what stays loaded is looked for on disk now and then only."""
        if not self.held(room, manifest_id):
            raise NoMatchError(f"{short(manifest_id)} is not on this node: pull it first")
        now = self.clock()
        path, looked_at = self._paths.get(manifest_id, (None, 0.0))
        loaded = self.pool.is_loaded(manifest_id.hex())
        if path is None or not loaded or now - looked_at >= OFFLOAD_USE_NOTED_INTERVAL_S:
            path = await asyncio.to_thread(self._lay_out, manifest_id)
            self._paths[manifest_id] = path, now
        return path

    def _lay_out(self, manifest_id: ManifestId) -> Path:
        manifest, known = self.store.manifest(manifest_id), self.state.model(manifest_id)
        if manifest is None or known is None:
            raise NoMatchError(f"{short(manifest_id)} is not on this node: pull it first")
        return self.store.lay_out(manifest_id, manifest, known.name, None)
