"""Small swarms, run to their end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dreamer.simulations.engine.outcome import simulate
from dreamer.simulations.report.result import RunResult
from dreamer.simulations.scenario.model import Group, ModelSpec, OriginSpec, Scenario, Wish

MODEL = "small"
SIZE_GB = 0.128
WISH = (Wish(MODEL),)
ORIGIN = OriginSpec(holds=(MODEL,))


def _scenario(*groups: Group, **others: object) -> Scenario:
    base = Scenario("test", "", (ModelSpec(MODEL, SIZE_GB),), groups, block_mib=4, until_s=4000.0)
    return replace(base, **others)


@pytest.fixture
def scenario() -> Callable[..., Scenario]:
    """``scenario(*groups, **fields)``: one model of 128 MB in blocks of 4 MiB."""
    return _scenario


@pytest.fixture
def run() -> Callable[..., RunResult]:
    """``run(*groups, seed=1, **fields)`` returns how it went."""

    def to_its_end(*groups: Group, seed: int = 1, **fields: object) -> RunResult:
        return simulate(_scenario(*groups, **fields), seed)

    return to_its_end


@pytest.fixture
def seeder() -> Group:
    return Group("seeder", 1, holds=(MODEL,))


@pytest.fixture
def takers() -> Callable[..., Group]:
    def group(count: int = 4, name: str = "takers", **fields: object) -> Group:
        return Group(name, count, pulls=fields.pop("pulls", WISH), **fields)

    return group


@pytest.fixture
def origin() -> OriginSpec:
    return ORIGIN
