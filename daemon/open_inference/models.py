"""Models as the protocol tells of them: metadata, configuration, statistics and the repository.

Answers are plain values that JSON and the messages of gRPC are made from alike. A *version* is the
start of the model's id, which names its very content; "1" is whatever the name means now.
"""

from __future__ import annotations

import re
from typing import Any

from dreamer.daemon.inference.tensors import TensorSpec
from dreamer.daemon.open_inference.text import DECODER_SPECS, embedding_specs
from dreamer.daemon.surfaces.inference import Inference, ModelStatistics, Servable, Signature
from dreamer.daemon.version import VERSION
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import NoMatchError

VERSION_DIGITS = 8
"""Hex digits of a model's id that are told as its version."""

ANY_VERSION = ("", "1")
EXTENSIONS = [
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "statistics",
    "generate",
]
PLATFORM, BACKEND = "onnxruntime_onnx", "onnxruntime"

_ID = re.compile(r"[0-9a-f]{8,64}\Z")
_NS = 1_000_000_000


def server_metadata() -> Json:
    """Return what ``GET /v2`` tells."""
    return {"name": "dreamerd", "version": VERSION, "extensions": EXTENSIONS}


def version_of(manifest_id: str) -> str:
    """Return the version that is told of a model."""
    return manifest_id[:VERSION_DIGITS]


class Models:
    """The models of a node; ``unloaded`` were unloaded on demand and not asked for since."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._unloaded: set[str] = set()

    async def find(self, name: str, version: str) -> Servable:
        """Return what a name means; a version that is no start of its id names another model's.

        Raises:
            NoMatchError: nothing, or the name's model has no such version.
        """
        if version in ANY_VERSION:
            return await self._inference.find(name)
        if not _ID.match(version):
            raise NoMatchError(
                f"{name!r:.80} has no version {version!r:.40}: leave it out, or give the first "
                f"{VERSION_DIGITS} digits of the model's id or more"
            )
        return await self._find_version(name, version)

    async def reference(self, name: str, version: str) -> str:
        """Return how the node is asked for a model; cheap where no version is asked for.

        Raises:
            NoMatchError: as in ``find``.
        """
        if version in ANY_VERSION:
            return name
        found = await self.find(name, version)
        return f"{found.manifest_id}@{found.room}"

    async def metadata(self, name: str, version: str) -> Json:
        """Return a model's inputs and outputs; it is loaded for that if need be."""
        found = await self.find(name, version)
        inputs, outputs = specs_of(await self._signature(found))
        return {
            "name": name,
            "versions": [version_of(found.manifest_id)],
            "platform": PLATFORM,
            "inputs": [_described(one) for one in inputs],
            "outputs": [_described(one) for one in outputs],
        }

    async def config(self, name: str, version: str) -> Json:
        """Return a model's configuration as Triton has it; batches are part of the shapes."""
        found = await self.find(name, version)
        signature = await self._signature(found)
        inputs, outputs = specs_of(signature)
        return {
            "name": name,
            "platform": PLATFORM,
            "backend": BACKEND,
            "max_batch_size": 0,
            "input": [_configured(one) for one in inputs],
            "output": [_configured(one) for one in outputs],
            # Whether one request may have several answers: a decoder's text comes in pieces.
            "model_transaction_policy": {"decoupled": signature.kind == "decoder"},
        }

    async def ready(self, name: str, version: str) -> bool:
        """Return whether a request would be run here at once, or after the model is loaded."""
        try:
            found = await self.find(name, version)
        except NoMatchError:
            return False
        return self._state(found)[0] == "READY"

    async def load(self, name: str) -> None:
        """Have a model loaded."""
        found = await self._inference.find(name)
        await self._inference.load(name)
        self._unloaded.discard(found.manifest_id)

    async def unload(self, name: str) -> None:
        """Unload a model; a request for it loads it again."""
        found = await self._inference.find(name)
        await self._inference.unload(name)
        self._unloaded.add(found.manifest_id)

    async def index(self, only_ready: bool) -> list[Json]:
        """Return each model by its name and by its aliases, with its state."""
        listed = [
            (name, one)
            for one in await self._inference.servables()
            for name in dict.fromkeys((one.name, *one.aliases))
        ]
        meant: dict[tuple[str, str], None] = {}
        rooms: dict[str, set[str]] = {}
        for name, one in listed:
            rooms.setdefault(name, set()).add(one.room)
            meant[name, one.manifest_id] = None
        return [
            row
            for name, one in listed
            if (row := self._row(name if len(rooms[name]) == 1 else f"{name}@{one.room}", one))
            and (row["state"] == "READY" or not only_ready)
        ]

    async def statistics(self, name: str, version: str) -> list[Json]:
        """Return a model's statistics, of all that are or were loaded without a ``name``."""
        found = await self.find(name, version) if name else None
        told = [
            _statistics(one, name or one.name)
            for one in self._inference.statistics()
            if found is None or one.manifest_id == found.manifest_id
        ]
        return told or ([] if found is None else [_unasked(name, found)])

    async def _find_version(self, name: str, version: str) -> Servable:
        named = name.rpartition("@")[0] or name
        for one in await self._inference.servables():
            names = (one.name, *one.aliases, *(f"{other}@{one.room}" for other in one.aliases))
            known = name in (*names, f"{one.name}@{one.room}") or one.manifest_id.startswith(named)
            if known and one.manifest_id.startswith(version):
                return one
        raise NoMatchError(f"no model is called {name!r:.80} in version {version}")

    async def _signature(self, found: Servable) -> Signature:
        return await self._inference.signature(f"{found.manifest_id}@{found.room}")

    def _row(self, name: str, found: Servable) -> Json:
        state, reason = self._state(found)
        version = version_of(found.manifest_id)
        return {"name": name, "version": version, "state": state, "reason": reason}

    def _state(self, found: Servable) -> tuple[str, str]:
        loaded = {one.manifest_id for one in self._inference.statistics() if one.workers}
        if found.manifest_id in loaded:
            self._unloaded.discard(found.manifest_id)
        elif found.manifest_id in self._unloaded:
            return "UNAVAILABLE", "unloaded"
        if not found.here:
            return "UNAVAILABLE", "not on this node; a peer may run it, or pull it first"
        return "READY", ""


def specs_of(signature: Signature) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return a model's inputs and outputs as the protocol offers them."""
    if signature.kind == "decoder":
        return DECODER_SPECS
    if signature.kind == "embedding":
        return embedding_specs(signature.dimensions)
    return signature.inputs, signature.outputs


def _described(spec: TensorSpec) -> Json:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _configured(spec: TensorSpec) -> Json:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": list(spec.shape)}


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * _NS)}


def _counted(name: str, manifest_id: str, requests: int, durations: dict[str, Any]) -> Json:
    none = _duration(0, 0.0)
    parts = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
    told = {part: durations.get(part, none) for part in (*parts, "cache_hit", "cache_miss")}
    return {
        "name": name,
        "version": version_of(manifest_id),
        "last_inference": 0,
        "inference_count": requests,
        "execution_count": requests,
        "inference_stats": told,
        "response_stats": {},
        "batch_stats": [],
        "memory_usage": [],
    }


def _unasked(name: str, found: Servable) -> Json:
    return _counted(name, found.manifest_id, 0, {})


def _statistics(one: ModelStatistics, name: str) -> Json:
    answered = max(0, one.requests - one.failures)
    compute_s = one.prefill_s + one.decode_s
    durations = {
        "success": _duration(answered, one.queue_s + compute_s),
        "fail": _duration(one.failures, 0.0),
        "queue": _duration(answered, one.queue_s),
        "compute_infer": _duration(answered, compute_s),
    }
    told = _counted(name, one.manifest_id, answered, durations)
    told["memory_usage"] = [
        {"type": kind, "id": place, "byte_size": size} for kind, place, size in _memory(one) if size
    ]
    return told


def _memory(one: ModelStatistics) -> list[tuple[str, int, int]]:
    used: dict[tuple[str, int], int] = {}
    for worker in one.workers:
        device, _, place = worker.device.partition(":")
        used["CPU", 0] = used.get(("CPU", 0), 0) + worker.memory_bytes
        if device != "cpu":
            key = ("GPU", int(place or 0))
            used[key] = used.get(key, 0) + worker.gpu_memory_bytes
    return [(kind, place, size) for (kind, place), size in used.items()]
