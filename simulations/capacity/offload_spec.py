"""A day of requests on laptops and GPU nodes, as written in ``scenarios/offload.toml``."""

from __future__ import annotations

from dataclasses import dataclass, field

from dreamer.protocol.inference_limits import (
    INFERENCE_MAX_MODELS,
)

_COUNT = {"bounds": (1, 10_000)}
_SHARE = {"bounds": (0.0, 1.0)}
_RATE = {"bounds": (0.01, 1e9)}
_TIME = {"bounds": (0.0, 86_400.0)}


@dataclass(frozen=True)
class AskedModel:
    """A model that people ask. ``weight``: its part of all requests, beside the others'.
    Rates in tokens per second; those of laptops matter only if it is ``on_laptops``."""

    name: str
    size_gb: float = field(metadata=_RATE)
    weight: float = field(metadata={"bounds": (0.0, 1e6)})
    gpu_prefill_tokens_s: float = field(metadata=_RATE)
    gpu_decode_tokens_s: float = field(metadata=_RATE)
    on_laptops: bool = False
    laptop_prefill_tokens_s: float = field(default=100.0, metadata=_RATE)
    laptop_decode_tokens_s: float = field(default=20.0, metadata=_RATE)


@dataclass(frozen=True)
class Spread:
    """Numbers of tokens: lognormal, as lengths of texts are; cut off at ``most``."""

    median: float = field(metadata=_RATE)
    sigma: float = field(default=0.8, metadata={"bounds": (0.0, 3.0)})
    most: int = field(default=4096, metadata={"bounds": (1, 1_000_000)})


@dataclass(frozen=True)
class Machines:
    """``count`` alike. ``load_gb_s``: how fast a model gets from disk into memory;
    ``max_models``: so many of them fit there (setting ``inference.max_models``)."""

    count: int = field(metadata=_COUNT)
    load_gb_s: float = field(metadata=_RATE)
    max_models: int = field(default=INFERENCE_MAX_MODELS, metadata={"bounds": (1, 100)})


@dataclass(frozen=True)
class Offload:
    """The day. ``requests_by_hour``: of one laptop in each hour from midnight on, on the average.

    Machines stand in ``sites`` places in turn. Round trips are drawn for each pair: those given,
    and up to ``rtt_spread`` of that more. Whoever has seen no word of an answer after
    ``patience_s`` gives up.
    """

    models: tuple[AskedModel, ...]
    laptops: Machines
    gpus: Machines
    prompt: Spread
    answer: Spread
    requests_by_hour: tuple[float, ...]
    sites: int = field(default=1, metadata=_COUNT)
    rtt_here_s: float = field(default=0.001, metadata=_TIME)
    rtt_away_s: float = field(default=0.03, metadata=_TIME)
    rtt_spread: float = field(default=0.5, metadata={"bounds": (0.0, 10.0)})
    patience_s: float = field(default=60.0, metadata=_TIME)
