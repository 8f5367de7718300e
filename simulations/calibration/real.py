"""The fan-out by real daemons, and what its event logs say of its beginning and its end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

from dreamer.protocol.limits import DIRECT_HOLD_S
from dreamer.simulations.bench.fanout_clients.daemons import pull_at_once, room
from dreamer.simulations.bench.fanout_clients.star import Star
from dreamer.simulations.netlab.pair import HostNode
from dreamer.simulations.netlab.pull import Pull

_STAMP = r"(?m)^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) INFO "
_LINKED = re.compile(_STAMP + r"dreamer\.daemon\.links\.room_links linked to ([0-9a-f]{8})")
_DIRECT = re.compile(
    _STAMP + r"dreamer\.daemon\.direct\.taking_side direct connection to ([0-9a-f]{8}) is up"
)

Pair = tuple[int, int]
"""Two nodes by number, the lower first; the seed is 0."""


@dataclass(frozen=True)
class Times:
    """One node's pull, in seconds since the first began: its beginning, when it knew what to
    fetch, its first and its last block, and its receipt."""

    began_s: float
    resolved_s: float
    first_s: float
    all_s: float
    receipt_s: float


@dataclass(frozen=True)
class Fanned:
    """One real run. ``links``: when blocks could pass between two nodes, where their logs say."""

    times: tuple[Times, ...]
    links: dict[Pair, float]

    @property
    def completions(self) -> list[float]:
        """Each node's seconds from its command to its receipt."""
        return [one.receipt_s - one.began_s for one in self.times]


def finish_s(runs: list[Fanned]) -> float:
    """Return how long nodes took from their last block to their receipt: the median."""
    return median(one.receipt_s - one.all_s for run in runs for one in run.times)


def fan_out(star: Star) -> Fanned:
    """Have every node of the network pull from the seed, at once.

    Raises:
        LoopbackError: a pull failed or got stuck.
    """
    with room(star) as (nodes, model):
        ids = [str(node.client.status()["node_id"])[:8] for node in nodes]
        pulls = pull_at_once(star, nodes[1:], model)
        zero = min(pull.began_at for pull in pulls)
        return Fanned(tuple(_times(pull, zero) for pull in pulls), _links(nodes, ids, zero))


def _times(pull: Pull, zero: float) -> Times:
    began = pull.began_at - zero
    # Progress may never have been told with all of the blocks: the next phase was, then.
    end = pull.seen.get("finish", pull.seconds)
    return Times(
        began_s=began,
        resolved_s=began + pull.seen.get("fetch", 0.0),
        first_s=began + (pull.first_s or 0.0),
        all_s=began + min(pull.all_s or end, end),
        receipt_s=began + pull.seconds,
    )


def _links(nodes: list[HostNode], ids: list[str], zero: float) -> dict[Pair, float]:
    """Return when each link could carry blocks: a mean of what its two ends say."""
    told: dict[Pair, list[float]] = {}
    for number, node in enumerate(nodes):
        for peer, at in usable_links(node.process.log, zero).items():
            if peer in ids:
                other = ids.index(peer)
                told.setdefault((min(number, other), max(number, other)), []).append(at)
    return {pair: sum(ats) / len(ats) for pair, ats in sorted(told.items())}


def usable_links(log: Path, zero: float) -> dict[str, float]:
    """Return when a daemon could ask each of its peers for blocks, in seconds since ``zero``."""
    text = log.read_text("utf-8", "replace")
    linked = dict(_moments(_LINKED, text, zero))
    direct = dict(_moments(_DIRECT, text, zero))
    # Blocks wait a moment for a direct connection, and then go over the link's own channel; but
    # once there is one after all, what is under way on that channel is void and asked for again.
    return {peer: direct.get(peer, at + DIRECT_HOLD_S) for peer, at in linked.items()}


def _moments(pattern: re.Pattern[str], text: str, zero: float) -> Iterator[tuple[str, float]]:
    # The first of each: a link that comes up again later was there before.
    seen: dict[str, None] = {}
    for match in pattern.finditer(text):
        stamp, peer = match.groups()
        if peer not in seen:
            seen[peer] = None
            at = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").astimezone()
            yield peer, at.timestamp() - zero
