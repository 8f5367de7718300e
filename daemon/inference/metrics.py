"""What the pool counts, as metrics of the node: by model and worker, and how long it all takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from dreamer.daemon.inference.pool.statistics import BUCKETS_S, Buckets, Durations, Tally
from dreamer.daemon.metrics import Histogram, Metric
from dreamer.daemon.surfaces.inference import GpuInfo, ModelStatistics, PoolInfo

_COUNTERS: Sequence[tuple[str, str, Callable[[Tally], float]]] = (
    ("prompt_tokens", "Tokens of prompts and of texts embedded.", lambda t: t.prompt_tokens),
    ("cached_prompt_tokens", "Of these, not read again.", lambda t: t.cached_tokens),
    ("generation_tokens", "Tokens of answers.", lambda t: t.completion_tokens),
    ("queue_seconds", "Time that requests waited for a slot.", lambda t: t.queue_s),
    ("prefill_seconds", "Time spent on prompts, and on tensors.", lambda t: t.prefill_s),
    ("decode_seconds", "Time spent on answers.", lambda t: t.decode_s),
    ("loads", "Times a worker loaded the model.", lambda t: t.loads),
    ("load_seconds", "Time that took.", lambda t: t.load_s),
    ("load_failures", "Times it could not.", lambda t: t.failed_loads),
    ("evictions", "Times the model was unloaded.", lambda t: t.evictions),
    ("lost_workers", "Workers that died or hung.", lambda t: t.lost_workers),
    ("retries", "Requests that went on with another worker.", lambda t: t.retries),
)
_HISTOGRAMS: Sequence[tuple[str, str, Callable[[Durations], Buckets]]] = (
    ("queue_time", "How long a request waited for a slot.", lambda d: d.queue),
    ("load_time", "How long loading a model took.", lambda d: d.load),
    ("time_to_first_token", "From a request to its first token.", lambda d: d.first_token),
    ("time_per_output_token", "From one token to the next, mean of an answer.",
     lambda d: d.output_token),
    ("request_duration", "From a request to its end.", lambda d: d.request),
)  # fmt: skip


def pool_metrics(
    pool: PoolInfo,
    models: Sequence[ModelStatistics],
    tallies: Mapping[str, Tally],
    durations: Durations,
) -> Iterator[Metric | Histogram]:
    """Yield the metrics of running models; ``tallies`` are by manifest id."""
    yield from _gauges(pool, models)
    # Two models may have one name: with the same labels Prometheus would throw both away.
    labels = {one.manifest_id: {"model": one.name, "id": one.manifest_id[:8]} for one in models}
    told = [(labels[key], tally) for key, tally in tallies.items() if key in labels]
    yield Metric(
        "dreamer_inference_requests_total",
        "counter",
        "Requests that ended, by how; refused are those that found the line full.",
        [
            ({**label, "outcome": outcome}, count)
            for label, tally in told
            for outcome, count in _outcomes(tally).items()
        ],
    )
    for name, about, count in _COUNTERS:
        samples = [(label, count(tally)) for label, tally in told]
        yield Metric(f"dreamer_inference_{name}_total", "counter", about, samples)
    for name, about, of in _HISTOGRAMS:
        seen = of(durations)
        full = f"dreamer_inference_{name}_seconds"
        yield Histogram(full, about, BUCKETS_S, seen.counts, seen.total_s)


def _outcomes(tally: Tally) -> dict[str, int]:
    return {
        "ok": tally.answered,
        "failed": tally.failures,
        "cancelled": tally.cancelled,
        "refused": tally.refused,
    }


def _gauges(pool: PoolInfo, models: Sequence[ModelStatistics]) -> Iterator[Metric]:
    running: list[tuple[dict[str, str], float]] = []
    waiting: list[tuple[dict[str, str], float]] = []
    memory: list[tuple[dict[str, str], float]] = []
    on_gpu: list[tuple[dict[str, str], float]] = []
    for one in models:
        label = {"model": one.name, "id": one.manifest_id[:8]}
        running.append((label, one.running))
        waiting.append((label, one.queued))
        for worker in one.workers:
            of_worker = {**label, "pid": str(worker.pid), "device": worker.device}
            memory.append((of_worker, worker.memory_bytes))
            on_gpu.append((of_worker, worker.gpu_memory_bytes))
    yield _gauge("requests_running", "Requests in a slot.", running)
    yield _gauge("requests_waiting", "Requests that wait for a slot.", waiting)
    yield _gauge("queue_limit", "Requests that may wait.", [({}, pool.queue_max)])
    yield _gauge("worker_memory_bytes", "Resident memory of workers.", memory)
    yield _gauge("worker_gpu_memory_bytes", "Their memory on the GPU.", on_gpu)
    yield _gauge("spare_memory_bytes", "Of workers without a model.",
                 [({}, pool.spare_memory_bytes)])  # fmt: skip
    yield from _gpus(pool.gpus)


def _gpus(gpus: Sequence[GpuInfo]) -> Iterator[Metric]:
    labels = [{"device": gpu.device, "name": gpu.name} for gpu in gpus]
    for name, about, values in (
        ("gpu_memory_bytes", "Memory of a GPU.", [gpu.memory_bytes for gpu in gpus]),
        ("gpu_free_bytes", "What of it is free.", [gpu.free_bytes for gpu in gpus]),
        ("gpu_busy_ratio", "How much of the time it computes.", [gpu.busy for gpu in gpus]),
        ("gpu_workers", "Workers on it.", [gpu.workers for gpu in gpus]),
    ):
        yield _gauge(name, about, list(zip(labels, values, strict=True)))


def _gauge(name: str, about: str, samples: Sequence[tuple[dict[str, str], float]]) -> Metric:
    return Metric(f"dreamer_inference_{name}", "gauge", about, list(samples))
