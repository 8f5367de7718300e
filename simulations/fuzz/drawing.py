"""Scenarios by chance: small ones, in which everything that a scenario can say may occur.

Small, since what breaks among a thousand machines mostly breaks among five, if they are odd enough,
and five are simulated in a moment.
"""

from __future__ import annotations

from random import Random
from typing import Any

from dreamer.protocol.errors import InputError
from dreamer.simulations.scenario.model import (
    Churn,
    Group,
    Line,
    Misdeed,
    ModelSpec,
    NatKind,
    Network,
    OriginSpec,
    Partition,
    Relay,
    Scenario,
    Span,
    Wish,
)
from dreamer.simulations.scenario.references import check

RATES_MBIT = (4.0, 10.0, 50.0, 100.0, 300.0, 1000.0)
NATS: tuple[NatKind, ...] = (
    *("full_cone", "restricted", "port_restricted", "symmetric", "no_udp"),
)
MISDEEDS: tuple[Misdeed, ...] = ("bad_blocks", "claims_all", "silent", "floods")
REGIONS = ("here", "there")
BLOCK_MIB = (1, 2, 4, 8)
BLOCKS_MAX = 40
MB_PER_MIB = 1.048576
EARLY_S = 120.0
"""What happens in a scenario happens within this time: most pulls are over by then."""


def draw(rng: Random) -> Scenario:
    """Return a scenario in which somebody can pull something, at least at first."""
    while True:
        scenario = _draw(rng)
        try:
            check(scenario)
        except InputError:
            # A partition of a group that nobody drew, a model that nobody holds: try again.
            continue
        return scenario


def _draw(rng: Random) -> Scenario:
    block_mib = rng.choice(BLOCK_MIB)
    models = tuple(_model(rng, name, block_mib) for name in ("a", "b")[: _few(rng, 1, 2)])
    names = [model.name for model in models]
    groups = [_seeds(rng, names), *(_takers(rng, number, names) for number in range(_few(rng)))]
    if rng.random() < 0.3:
        groups.append(_villains(rng, names))
    return Scenario(
        name="drawn",
        about="drawn by dreamer-sim fuzz",
        models=models,
        groups=tuple(groups),
        seed=rng.randrange(1, 1_000_000),
        until_s=3600.0,
        block_mib=block_mib,
        rate_interval_s=rng.choice((0.0, 0.1, 0.1, 0.5)),
        network=_network(rng),
        origin=_origin(rng, names) if rng.random() < 0.5 else None,
        relays=tuple(
            Relay(rng.choice(RATES_MBIT), rng.choice(REGIONS)) for _ in range(rng.randrange(3))
        ),
        partitions=_partitions(rng, groups),
        tracker_outages=(_span(rng),) if rng.random() < 0.15 else (),
    )


def _few(rng: Random, least: int = 1, most: int = 3) -> int:
    return min(rng.randint(least, most), rng.randint(least, most))


def _model(rng: Random, name: str, block_mib: int) -> ModelSpec:
    blocks = rng.randint(1, BLOCKS_MAX)
    # Not a whole number of blocks: the last of a file is smaller.
    size_gb = max(0.001, round((blocks - rng.random()) * block_mib * MB_PER_MIB / 1000, 4))
    return ModelSpec(name, size_gb, files=min(_few(rng, 1, 4), blocks))


def _span(rng: Random) -> Span:
    from_s = round(rng.uniform(0.0, EARLY_S / 2), 1)
    return Span(from_s, round(from_s + rng.uniform(1.0, EARLY_S), 1))


def _seeds(rng: Random, models: list[str]) -> Group:
    return Group("seeds", _few(rng), holds=tuple(models), **_machine(rng), **_life(rng))


def _takers(rng: Random, number: int, models: list[str]) -> Group:
    wished = [name for name in models if rng.random() < 0.8] or models[:1]
    held = tuple(name for name in models if name not in wished and rng.random() < 0.5)
    more: dict[str, Any] = {}
    if rng.random() < 0.15:
        more["disk_gb"] = rng.choice((0.05, 0.2))
    if rng.random() < 0.15:
        more[rng.choice(("uses_origin", "uses_peers"))] = False
    if rng.random() < 0.15:
        more["churn"] = Churn(
            round(rng.uniform(5.0, EARLY_S), 1),
            rng.choice((0.0, round(rng.uniform(2.0, EARLY_S), 1))),
            rng.random() < 0.5,
        )
    wishes = tuple(Wish(name, 0.0, rng.choice((0.0, 1.0, 20.0))) for name in wished)
    machine = _machine(rng) | _life(rng)
    return Group(f"takers-{number}", _few(rng, 1, 8), holds=held, pulls=wishes, **machine, **more)


def _villains(rng: Random, models: list[str]) -> Group:
    misdeed = rng.choice(MISDEEDS)
    return Group(
        "villains",
        _few(rng),
        up_mbit=rng.choice(RATES_MBIT),
        down_mbit=rng.choice(RATES_MBIT),
        holds=tuple(models),
        misdeed=misdeed,
        misdeed_from_s=rng.choice((0.0, 0.0, round(rng.uniform(0.5, EARLY_S), 1))),
    )


def _machine(rng: Random) -> dict[str, Any]:
    """Return what a group's machines are like; most of it is as it is by default."""
    said: dict[str, Any] = {
        "up_mbit": rng.choice(RATES_MBIT),
        "down_mbit": rng.choice(RATES_MBIT),
    }
    odd: dict[str, tuple[object, ...]] = {
        "nat": NATS,
        "region": REGIONS,
        "slow_share": (0.5,),
        "disk_mb_s": (20.0, 200.0),
        "hash_mb_s": (20.0, 500.0),
        "clock_skew_s": (-3600.0, 90.0, 86400.0 * 40),
        "up_limit_mbit": (4.0, 40.0),
        "down_limit_mbit": (4.0, 40.0),
        "relay_budget_mib": (10, 50, 200),
    }
    return said | {name: rng.choice(of) for name, of in odd.items() if rng.random() < 0.2}


def _life(rng: Random) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if rng.random() < 0.3:
        said["joins_to_s"] = rng.choice((1.0, 30.0))
    if rng.random() < 0.1:
        said["leaves_at_s"] = round(rng.uniform(31.0, EARLY_S), 1)
    elif rng.random() < 0.1:
        said["leaves_at_share"] = round(rng.random(), 2)
    return said


def _network(rng: Random) -> Network:
    lines: tuple[Line, ...] = ()
    if rng.random() < 0.3:
        mbit = rng.choice((0.0, 20.0, 200.0))
        lines = (Line("here", "there", rng.choice((5.0, 80.0, 300.0)), mbit, 0.0),)
    loss = rng.choice((0.0, 0.0, 0.0, 0.001))
    return Network(rng.choice((1.0, 20.0, 150.0)), loss=loss, lines=lines)


def _origin(rng: Random, models: list[str]) -> OriginSpec:
    return OriginSpec(
        up_mbit=rng.choice(RATES_MBIT),
        per_request_mbit=rng.choice((20.0, 720.0)),
        latency_ms=rng.choice((5.0, 40.0, 300.0)),
        requests_s=rng.choice((0.0, 0.0, 3.0, 50.0)),
        region=rng.choice(REGIONS),
        holds=tuple(name for name in models if rng.random() < 0.8),
    )


def _partitions(rng: Random, groups: list[Group]) -> tuple[Partition, ...]:
    if rng.random() < 0.85:
        return ()
    cut = tuple(group.name for group in groups if rng.random() < 0.5) or (groups[0].name,)
    return (Partition(_span(rng), cut, rng.random() < 0.5),)
