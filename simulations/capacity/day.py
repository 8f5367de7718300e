"""What a day of requests came to: latencies by hour, how busy the GPUs were, who got no answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dreamer.simulations.capacity.estimate import quantile
from dreamer.simulations.capacity.offload import HOUR_S, OffloadDay, Request
from dreamer.simulations.capacity.offload_spec import Offload


@dataclass(frozen=True)
class Latency:
    """From asking to the first word, in seconds, of those that got one."""

    count: int
    p50_s: float
    p95_s: float
    p99_s: float

    @classmethod
    def of(cls, requests: Sequence[Request]) -> Latency:
        """Return the percentiles of some requests, by nearest rank."""
        seen = sorted(one.first_token_s for one in requests if one.first_token_s is not None)
        return cls(len(seen), quantile(seen, 0.5), quantile(seen, 0.95), quantile(seen, 0.99))


@dataclass(frozen=True)
class Account:
    """Some requests. ``local`` ran on laptops, ``offloaded`` on GPU nodes; ``refusals``: how often
    a node said that it has too many, whether another took the request or not."""

    requests: int
    local: Latency
    offloaded: Latency
    refused: int
    gave_up: int
    refusals: int

    @classmethod
    def of(cls, requests: Sequence[Request]) -> Account:
        """Return the account of some requests."""
        return cls(
            requests=len(requests),
            local=Latency.of([one for one in requests if one.local]),
            offloaded=Latency.of([one for one in requests if not one.local]),
            refused=sum(one.ending == "refused" for one in requests),
            gave_up=sum(one.ending == "gave up" for one in requests),
            refusals=sum(one.refusals for one in requests),
        )


@dataclass(frozen=True)
class Hour:
    """One hour: requests asked in it, and the share of it in which GPU nodes generated, on the
    average and the busiest one."""

    hour: int
    account: Account
    utilisation: float
    busiest: float


@dataclass(frozen=True)
class Variant:
    """The same day with another number of GPU nodes."""

    gpus: int
    day: Account
    peak: Account
    """The busiest hour's."""
    utilisation: float
    """Of all GPU nodes in the busiest hour."""


@dataclass(frozen=True)
class OffloadResult:
    """A day. ``by_gpu``: each node's utilisation over the day; ``variants``: with fewer and more
    GPU nodes, this one among them; ``trace_hash``: of every request's end."""

    spec: Offload
    seed: int
    hours: tuple[Hour, ...]
    by_gpu: tuple[float, ...]
    variants: tuple[Variant, ...]
    events: int
    trace_hash: str


def run_day(
    spec: Offload,
    seed: int,
    report: Callable[[str], None] = lambda line: None,
    beside: Sequence[int] = (-1, 1),
) -> OffloadResult:
    """Return the day, and the same day with ``beside`` more or fewer GPU nodes each."""
    day = _simulated(spec, seed, report)
    variants = {spec.gpus.count: _variant(day, spec)}
    for more in beside:
        if (count := spec.gpus.count + more) > 0:
            other = replace(spec, gpus=replace(spec.gpus, count=count))
            variants[count] = _variant(_simulated(other, seed, report), other)
    return OffloadResult(
        spec=spec,
        seed=seed,
        hours=_hours(day, spec),
        by_gpu=tuple(sum(gpu.busy_s) / (HOUR_S * len(gpu.busy_s)) for gpu in day.gpus),
        variants=tuple(variants[count] for count in sorted(variants)),
        events=day.clock.happened,
        trace_hash=day.trace.hash,
    )


def _simulated(spec: Offload, seed: int, report: Callable[[str], None]) -> OffloadDay:
    report(f"a day of {spec.laptops.count} laptops and {spec.gpus.count} GPU nodes")
    day = OffloadDay(spec, seed)
    day.run()
    return day


def _hours(day: OffloadDay, spec: Offload) -> tuple[Hour, ...]:
    asked: list[list[Request]] = [[] for _ in spec.requests_by_hour]
    for request in day.requests:
        asked[int(request.asked_s // HOUR_S)].append(request)
    hours = []
    for hour, requests in enumerate(asked):
        busy = [gpu.busy_s[hour] / HOUR_S for gpu in day.gpus]
        hours.append(Hour(hour, Account.of(requests), sum(busy) / len(busy), max(busy)))
    return tuple(hours)


def _variant(day: OffloadDay, spec: Offload) -> Variant:
    busiest = max(_hours(day, spec), key=lambda hour: hour.account.requests)
    return Variant(spec.gpus.count, Account.of(day.requests), busiest.account, busiest.utilisation)
