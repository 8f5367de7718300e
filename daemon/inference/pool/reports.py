"""What the pool tells of its models: to the user, to the metrics, to who chooses where to run."""

from __future__ import annotations

import time
from dataclasses import dataclass

from dreamer.daemon.inference.load_options import CPU
from dreamer.daemon.inference.pool.devices import Devices
from dreamer.daemon.inference.pool.loading import Loading
from dreamer.daemon.inference.pool.seat import ModelWorker, Seat
from dreamer.daemon.inference.pool.settings import PoolSettings
from dreamer.daemon.surfaces.inference import GpuInfo, ModelStatistics, PoolInfo, WorkerStatistics


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory. Rates are tokens per second over its last requests, 0 before the first.

    ``pid`` is that of its first worker, ``rss_bytes`` what all of them take.
    """

    manifest_id: str
    pid: int
    rss_bytes: int
    requests: int
    decode_tokens_s: float
    prefill_tokens_s: float
    workers: int
    device: str
    running: int
    queued: int


@dataclass(frozen=True)
class Estimate:
    """What to expect of a model here. Rates are of one request, lately; None: never measured.

    ``slots`` is how many requests run at once, over all its workers; ``loaded`` or not, ``device``
    is where it runs or would run. ``requests_s`` is how many runs of a graph, for tensors and
    embeddings, one worker does a second.
    """

    loaded: bool
    device: str
    running: int
    queued: int
    slots: int
    load_s: float | None
    prefill_tokens_s: float | None
    decode_tokens_s: float | None
    requests_s: float | None


def pool_info(queued: int, loading: Loading, settings: PoolSettings) -> PoolInfo:
    """Describe the pool as a whole."""
    spares = loading.spares.processes
    gpus = tuple(
        GpuInfo(
            *(gpu.device, gpu.name, gpu.total_bytes, gpu.free_bytes, gpu.used_share),
            workers=loading.workers_on(gpu.device),
        )
        for gpu in loading.devices.gpus
    )
    spare_bytes = sum(one.rss_bytes for one in spares)
    return PoolInfo(queued, settings.queue_max, len(spares), spare_bytes, gpus)


def loaded_model(seat: Seat) -> LoadedModel:
    """Describe a model in memory."""
    speeds = seat.tally.speeds
    first = seat.workers[0]
    return LoadedModel(
        seat.manifest_id,
        first.process.pid,
        seat.measure(),
        seat.tally.requests,
        speeds.decode.per_s,
        speeds.prefill.per_s,
        len(seat.workers),
        first.card.device,
        seat.running,
        len(seat.waiting),
    )


def estimate(seat: Seat, loading: Loading, settings: PoolSettings) -> Estimate:
    """Return what to expect of a request to this model."""
    tally = seat.tally
    slots = sum([one.card.slots for one in seat.workers if one.takes_requests])
    expected_slots = seat.card.slots if seat.card else settings.slots
    device = seat.workers[0].card.device if seat.workers else loading.device_for(seat, 0)
    return Estimate(
        loaded=slots > 0,
        device=device or CPU,
        running=seat.running,
        queued=len(seat.waiting),
        slots=slots or expected_slots,
        load_s=tally.loading.seconds or None,
        prefill_tokens_s=tally.speeds.prefill.per_s or None,
        decode_tokens_s=tally.speeds.decode.per_s or None,
        requests_s=tally.runs.per_s or None,
    )


def model_statistics(seat: Seat, kept_s: float, devices: Devices) -> ModelStatistics:
    """Describe a model that is or was in memory; it has no name here."""
    tally = seat.tally
    idle = seat.held and not seat.busy and not seat.pinned
    left_s = seat.idle_since + kept_s - time.monotonic()
    return ModelStatistics(
        manifest_id=seat.manifest_id,
        name="",
        kind=seat.card.signature.kind if seat.card else "decoder",
        workers=tuple(_worker(one, devices) for one in seat.workers),
        memory_bytes=seat.measure() if seat.held else 0,
        pinned=seat.pinned,
        # While it works its time has not begun to run.
        expires_at=time.time() + (left_s if idle else kept_s) if _ends(seat) else None,
        queued=len(seat.waiting),
        running=seat.running,
        requests=tally.requests,
        failures=tally.failures,
        prompt_tokens=tally.prompt_tokens,
        cached_tokens=tally.cached_tokens,
        completion_tokens=tally.completion_tokens,
        queue_s=tally.queue_s,
        prefill_s=tally.prefill_s,
        decode_s=tally.decode_s,
        loads=tally.loads,
        load_s=tally.load_s,
        evictions=tally.evictions,
        context=seat.card.signature.context if seat.card else 0,
    )


def _ends(seat: Seat) -> bool:
    return seat.held and not seat.pinned


def _worker(worker: ModelWorker, devices: Devices) -> WorkerStatistics:
    pid = worker.process.pid
    return WorkerStatistics(
        pid=pid,
        device=worker.card.device,
        memory_bytes=worker.process.rss_bytes,
        gpu_memory_bytes=devices.gpu_memory(pid),
        requests=worker.requests,
        running=worker.running,
        prefill_tokens_s=worker.speeds.prefill.per_s,
        decode_tokens_s=worker.speeds.decode.per_s,
    )
