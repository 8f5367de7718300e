"""Max-min fair shares: nobody can get more without taking from one who has no more.

Progressive filling (Bertsekas and Gallager, Data Networks, section 6.5.2), many bottlenecks at a
time: a pipe is settled as soon as each of its flows would get no more elsewhere, whatever happens
in other parts of the network. So the rounds are as many as bottlenecks depend on one another, tens
for a swarm of a thousand, where one bottleneck at a time would be a thousand rounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]
Flags = NDArray[np.bool_]

EXACT = 1e-13
"""The slack at which only rounding keeps shares apart that are equal."""


@dataclass
class _Filling:
    """Flows that have no rate yet, and what the settled ones leave them of each pipe."""

    room: Floats
    load: Floats
    pipes: Numbers
    limits: Floats
    which: Numbers


def divide(capacities: Floats, pipes: Numbers, limits: Floats, slack: float = EXACT) -> Floats:
    """Return the rate of each flow, in the unit of ``capacities``.

    ``pipes[k, f]`` is the k-th pipe of flow f; pipes of infinite capacity fill a column up. A pipe
    that a flow names twice carries it twice. ``limits`` holds what each takes at most (finite).

    With ``slack`` s every flow still has a pipe on which no other gets more than 1 + s times its
    rate, and of which no more than the share s is left unused. No pipe is ever overfull.
    """
    rates = np.zeros(limits.size)
    load = np.zeros(capacities.size)
    for column in pipes:
        load += np.bincount(column, minlength=capacities.size)
    filling = _Filling(capacities.copy(), load, pipes, limits, np.arange(limits.size))
    narrowed_at = 2 * limits.size
    while filling.which.size:
        if 2 * filling.which.size <= narrowed_at:
            _narrow(filling)
            narrowed_at = filling.which.size
        _round(filling, rates, slack)
    return rates


def _narrow(filling: _Filling) -> None:
    """Forget the pipes that nobody without a rate uses: rounds cost their number too."""
    used = np.flatnonzero(filling.load > 0)
    renamed = np.zeros(filling.load.size, dtype=np.intp)
    renamed[used] = np.arange(used.size)
    filling.pipes = renamed[filling.pipes]
    filling.room, filling.load = filling.room[used], filling.load[used]


def _round(filling: _Filling, rates: Floats, slack: float) -> None:
    """Settle every flow that has a bottleneck, whatever the others will get."""
    shares = filling.room / np.maximum(filling.load, 1.0)
    # What each is sure of: shares only grow while others settle for less than theirs.
    offers = [shares[column] for column in filling.pipes]
    sure = filling.limits.copy()
    for offer in offers:
        np.minimum(sure, offer, out=sure)
    settled = _settled(filling, offers, sure, slack)
    gone = sure[settled]
    rates[filling.which[settled]] = gone
    for column in filling.pipes[:, settled]:
        filling.room -= np.bincount(column, gone, filling.room.size)
        filling.load -= np.bincount(column, minlength=filling.room.size)
    # Rounding may leave a hair less than nothing.
    np.maximum(filling.room, 0.0, out=filling.room)
    left = ~settled
    filling.pipes = filling.pipes[:, left]
    filling.limits, filling.which = filling.limits[left], filling.which[left]


def _settled(filling: _Filling, offers: list[Floats], sure: Floats, slack: float) -> Flags:
    """Return which flows are at their limit, or on a pipe none of whose flows is held elsewhere."""
    enough = sure * (1.0 + slack)
    loose = np.zeros(filling.room.size, dtype=np.bool_)
    for column, offer in zip(filling.pipes, offers, strict=True):
        loose[column[offer > enough]] = True
    settled: Flags = filling.limits <= enough
    for column in filling.pipes:
        settled |= ~loose[column]
    return settled
