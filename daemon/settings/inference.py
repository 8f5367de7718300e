"""Settings of running models."""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.daemon.setting_checks import (
    between,
)
from dreamer.daemon.settings.key import key
from dreamer.protocol.inference_limits import (
    INFERENCE_IDLE_TIMEOUT_S,
    INFERENCE_MAX_MODELS,
)


@dataclass(frozen=True)
class InferenceSection:
    """Running models."""

    serve_peers: bool = key(False, "Run models for other members of a room.")
    max_models: int = key(
        INFERENCE_MAX_MODELS,
        "Models kept loaded at once, each in its own process.",
        between(1, 64),
    )
    max_memory_mib: int = key(
        0,
        "MiB of memory that a model's process may take; weights mapped from disk don't count. "
        "0: three quarters of this machine's.",
        between(0, 2**30),
    )
    threads: int = key(0, "Threads a model may use. 0: all cores.", between(0, 1024))
    idle_timeout_s: float = key(
        INFERENCE_IDLE_TIMEOUT_S,
        "Seconds without a request before a model is unloaded.",
        between(0, 10**7),
    )
