"""How a batch is shared out: each node takes as much as it does in the time that all take.

With equal delays that is in proportion to the rates. A node that begins later (a longer way, a
queue, a model still to be loaded) takes less, and none if the others are done before it begins.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from dreamer.protocol.ids import NodeId


@dataclass(frozen=True)
class Hand:
    """A node that could take a part. ``rate`` is in units of size a second, None: not measured.

    ``delay_s`` passes before it begins.
    """

    node: NodeId
    rate: float | None = None
    delay_s: float = 0.0


@dataclass(frozen=True)
class Share:
    """The items from ``first`` on that a node is to do."""

    node: NodeId
    first: int
    count: int


def spread(sizes: Sequence[float], hands: Sequence[Hand], least: int = 1) -> tuple[Share, ...]:
    """Return who does which items, in their order and all of them.

    ``sizes`` says how much each item takes. Nobody gets fewer than ``least`` items, unless there
    are fewer in all. A rate that was never measured is taken to be the mean of those that were.
    """
    hands = [hand for hand in hands if hand.rate is None or hand.rate > 0] or list(hands[:1])
    while True:
        shares = _cut(sizes, hands, _amounts(sum(sizes), hands))
        smallest = min(shares, key=lambda share: share.count)
        if smallest.count >= least or len(shares) == 1:
            return shares
        hands = [hand for hand in hands if hand.node != smallest.node]


def _amounts(total: float, hands: Sequence[Hand]) -> list[float]:
    """Return how much each takes so that all that take any are done at the same moment."""
    known = [hand.rate for hand in hands if hand.rate]
    mean = sum(known) / len(known) if known else 1.0
    rates = [hand.rate or mean for hand in hands]
    # Without any rate there is no telling what a second of delay is worth.
    delays = [hand.delay_s if known else 0.0 for hand in hands]
    working, done_s = 0.0, 0.0
    owed = total
    for place in sorted(range(len(hands)), key=lambda one: (delays[one], one)):
        if working and delays[place] >= done_s:
            break
        working += rates[place]
        owed += rates[place] * delays[place]
        done_s = owed / working
    return [max(0.0, rate * (done_s - delay)) for rate, delay in zip(rates, delays, strict=True)]


def _cut(
    sizes: Sequence[float], hands: Sequence[Hand], amounts: Sequence[float]
) -> tuple[Share, ...]:
    """Cut the items where the amounts end, each cut at the nearest boundary."""
    ends = list(accumulate(sizes))
    shares, first, amount = [], 0, 0.0
    for hand, own in zip(hands, amounts, strict=True):
        amount += own
        last = _nearest(ends, amount)
        if last > first:
            shares.append(Share(hand.node, first, last - first))
            first = last
    if not shares:
        return (Share(hands[0].node, 0, len(sizes)),)
    # Rounding may leave the last items over.
    rest = len(sizes) - first
    return (*shares[:-1], Share(shares[-1].node, shares[-1].first, shares[-1].count + rest))


def _nearest(ends: Sequence[float], amount: float) -> int:
    """Return how many items come nearest to an amount."""
    place = bisect_left(ends, amount)
    if place == len(ends):
        return place
    before = ends[place - 1] if place else 0.0
    return place + 1 if ends[place] - amount <= amount - before else place
