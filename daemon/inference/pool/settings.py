"""How a pool is set up: its bounds, and how it chooses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from dreamer.protocol.assignment import ANY_GPU, Assignment
from dreamer.protocol.inference_limits import (
    GENERATE_FIRST_TOKEN_TIMEOUT_S,
    INFERENCE_IDLE_TIMEOUT_S,
    INFERENCE_LOAD_MIN_BYTES_S,
    INFERENCE_LOAD_TIMEOUT_S,
    INFERENCE_MAX_MODELS,
    INFERENCE_PREFIX_CACHE_MAX_BYTES,
    INFERENCE_QUEUE_MAX,
    INFERENCE_SLOTS,
    INFERENCE_WORKERS_PER_CPU,
    INFERENCE_WORKERS_PER_GPU,
)
from dreamer.protocol.residency import Bounds, Eviction


@dataclass(frozen=True)
class PoolSettings:
    """Settings of a pool. 0 means: all cores, no bound, the default of the device.

    ``memory_bytes`` bounds one worker's private memory, ``max_memory_bytes`` what all of them
    take. ``preferred_gpu`` is by alias, name or id of a model, or the beginning of its id.
    """

    max_models: int = INFERENCE_MAX_MODELS
    max_memory_bytes: int = 0
    workers_per_gpu: int = 0
    threads: int = 0
    slots: int = INFERENCE_SLOTS
    prefix_cache_bytes: int = INFERENCE_PREFIX_CACHE_MAX_BYTES
    spare_workers: int = 0
    idle_timeout_s: float = INFERENCE_IDLE_TIMEOUT_S
    queue_max: int = INFERENCE_QUEUE_MAX
    memory_bytes: int = 0
    gpu_memory_bytes: int = 0
    use_gpu: bool = True
    load_timeout_s: float = INFERENCE_LOAD_TIMEOUT_S
    silence_timeout_s: float = GENERATE_FIRST_TOKEN_TIMEOUT_S
    assignment: Assignment = "least-loaded"
    eviction: Eviction = "lru"
    preferred_gpu: Mapping[str, int] = field(default_factory=dict)

    def load_timeout_of(self, size_bytes: int) -> float:
        """Return how long a model of this size may take to load: more for one that is large."""
        return max(self.load_timeout_s, size_bytes / INFERENCE_LOAD_MIN_BYTES_S)

    @property
    def bounds(self) -> Bounds:
        """What may be in memory at once."""
        return Bounds(self.max_models, self.max_memory_bytes)

    def workers_on(self, gpu: bool) -> int:
        """Return how many workers a model may have on one device."""
        default = INFERENCE_WORKERS_PER_GPU if gpu else INFERENCE_WORKERS_PER_CPU
        return self.workers_per_gpu or default

    def threads_on(self, gpu: bool) -> int:
        """Return the threads of one worker: those of a model share the cores on a CPU.

        On a GPU they only feed it.
        """
        workers = 1 if gpu else self.workers_on(gpu=False)
        return self.threads or max(1, len(_cores()) // workers)

    def gpu_of(self, manifest_id: str, names: tuple[str, ...]) -> int:
        """Return the GPU that a model prefers, -1 for any."""
        for given, gpu in self.preferred_gpu.items():
            if given in names or (given and manifest_id.startswith(given)):
                return gpu
        return ANY_GPU


def _cores() -> list[int]:
    """Return the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
