"""How a worker is to load a model: what an ``open`` frame says. Free of numpy, for the pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dreamer.protocol.inference_limits import (
    INFERENCE_PREFIX_CACHE_MAX_BYTES,
    INFERENCE_SLOTS,
)

CPU = "cpu"


@dataclass(frozen=True)
class LoadOptions:
    """``device`` is ``cpu`` or ``cuda:N``; 0 bytes mean no bound.

    ``slots`` is how many answers a decoder makes at once, ``prefix_cache_bytes`` how much of its
    memory may hold what earlier requests have read.
    """

    threads: int = 1
    device: str = CPU
    memory_bytes: int = 0
    gpu_memory_bytes: int = 0
    slots: int = INFERENCE_SLOTS
    prefix_cache_bytes: int = INFERENCE_PREFIX_CACHE_MAX_BYTES

    @classmethod
    def from_fields(cls, given: Mapping[str, Any]) -> LoadOptions:
        """Return the options of an ``open`` frame, defaults where it is silent."""
        return cls(**{one.name: given[one.name] for one in fields(cls) if one.name in given})
