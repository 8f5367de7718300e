"""Settings of running models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from dreamer.daemon.field_types import TableText
from dreamer.daemon.setting_checks import between
from dreamer.daemon.settings.key import key
from dreamer.protocol.inference_limits import (
    INFERENCE_IDLE_TIMEOUT_S,
    INFERENCE_LOAD_TIMEOUT_S,
    INFERENCE_MAX_MODELS,
    INFERENCE_PREFIX_CACHE_MAX_BYTES,
    INFERENCE_QUEUE_MAX,
    INFERENCE_SLOTS,
    INFERENCE_SPARE_WORKERS,
)
from dreamer.protocol.limits import MIB


def _gpus_by_model(text: str) -> str | None:
    """Check a table of models and the GPU each prefers."""
    try:
        good = all(type(gpu) is int and -1 <= gpu <= 1023 for gpu in json.loads(text).values())
    except (ValueError, AttributeError):
        good = False
    return None if good else "a table of models and GPU numbers, such as prod = 0 (-1: any)"


@dataclass(frozen=True)
class InferenceSection:
    """Running models, in worker processes: see `dreamer ps`."""

    serve_peers: bool = key(False, "Run models for other members of a room.")
    gpu: bool = key(
        True,
        "Use NVIDIA GPUs where there are some and onnxruntime-gpu is installed; else the CPU.",
    )
    workers_per_gpu: int = key(
        0,
        "Worker processes that one model may have on each GPU, or on the CPU. It begins with one; "
        "more are started when all its slots are taken. 0: 4 on a GPU, 1 on the CPU.",
        between(0, 64),
    )
    slots: int = key(
        INFERENCE_SLOTS,
        "Answers that one worker writes at a time; further requests wait.",
        between(1, 256),
    )
    queue: int = key(
        INFERENCE_QUEUE_MAX,
        "Requests that may wait, all models together; one more is refused (HTTP 503).",
        between(0, 10**6),
    )
    assignment: Literal["least-loaded", "round-robin"] = key(
        "least-loaded",
        "Which of a model's workers gets a request: the least busy, or each in turn.",
    )
    preferred_gpu: TableText = key(  # noqa: RUF009 - a field of text, like the others
        TableText("{}"),
        "GPU numbers by model (alias, name or id): a section [inference.preferred_gpu] with lines "
        "such as prod = 0. Models that are not named take any. Numbers are nvidia-smi's, of those "
        "that CUDA_VISIBLE_DEVICES leaves.",
        _gpus_by_model,
    )
    max_models: int = key(
        INFERENCE_MAX_MODELS,
        "Models kept loaded at once, each in processes of its own.",
        between(1, 64),
    )
    max_memory_gb: float = key(
        0.0,
        "GB (10**9 bytes) of memory that loaded models may take together: others are unloaded "
        "before a load would pass it. 0: no bound but max_models.",
        between(0, 10**6),
    )
    eviction: Literal["lru", "lfu"] = key(
        "lru", "Which idle model goes first: the least recently or the least frequently used."
    )
    max_worker_memory_mib: int = key(
        0,
        "MiB of memory that one worker process may take; weights mapped from disk don't count. "
        "0: three quarters of this machine's, and no more than max_memory_gb.",
        between(0, 2**30),
    )
    max_worker_gpu_memory_mib: int = key(
        0, "MiB of GPU memory that one worker may take. 0: all of it.", between(0, 2**30)
    )
    prefix_cache_mib: int = key(
        INFERENCE_PREFIX_CACHE_MAX_BYTES // MIB,
        "MiB in which a worker keeps what it has read, for prompts that begin alike. 0: none.",
        between(0, 2**30),
    )
    threads: int = key(0, "Threads a worker may use. 0: its share of the cores.", between(0, 1024))
    spare_workers: int = key(
        INFERENCE_SPARE_WORKERS,
        "Workers started ahead on a node that has models, so that a first request waits only for "
        "its model; each takes about 70 MB. 0: none.",
        between(0, 16),
    )
    idle_timeout_s: float = key(
        INFERENCE_IDLE_TIMEOUT_S,
        "Seconds without a request before a model is unloaded; a request may say otherwise "
        "(keep_alive).",
        between(0, 10**7),
    )
    load_timeout_s: float = key(
        INFERENCE_LOAD_TIMEOUT_S,
        "Seconds that loading a model may take; one of many gigabytes may take longer (20 s for "
        "each).",
        between(1, 10**5),
    )
    silence_timeout_s: float = key(
        60.0,
        "Seconds after which a worker that answers nothing and computes nothing is replaced.",
        between(0.1, 10**5),
    )

    def gpus(self) -> dict[str, int]:
        """Return ``preferred_gpu`` as a table."""
        table: dict[str, int] = json.loads(self.preferred_gpu)
        return table
