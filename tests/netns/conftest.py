"""Plays the scenarios that the selected tests name, several at a time, in one network.

A test waits for its own: ``outcome("symmetric, symmetric")``. Each prints its row of the matrix,
which ``pytest -rP`` shows.
"""

from __future__ import annotations

import os

import pytest

from dreamer.simulations.netlab.iproute import missing
from dreamer.simulations.netlab.matrix import playing, row

PLAYED_WITHIN_S = 340.0


@pytest.fixture(scope="session")
def networks(program):
    """Whatever builds networks needs this: it is skipped where none can be built, never in CI."""
    for name in ("ip", "nft", "tc", "conntrack", "turnserver"):
        program(name)
    reason = missing()
    if reason is not None and os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI skips nothing")
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def begun(networks, request, tmp_path_factory):
    named = [
        item.callspec.params["scenario"]
        for item in request.session.items
        if "outcome" in item.fixturenames
    ]
    with playing(tmp_path_factory.mktemp("net"), named) as begun:
        yield begun


@pytest.fixture
def outcome(begun):
    """``outcome(scenario)`` waits until a scenario is over and returns what it came to."""

    def wait(scenario: str):
        came = begun[scenario].result(PLAYED_WITHIN_S)
        print(row(scenario, came))
        return came

    return wait
