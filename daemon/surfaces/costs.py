"""What a node, and a room over all nodes that report, moved and paid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class CostFigures:
    """Bytes and money of a month, of a node, a lane or a model; money in the settings' currency.

    ``uses`` are pulls that ended with a model whole here, ``wanted_bytes`` its size each time.
    What each sum of money means is said in ``protocol/costs.py`` and docs/ledger.md.
    """

    uses: int = 0
    wanted_bytes: int = 0
    cache_bytes: int = 0
    peer_bytes: int = 0
    origin_bytes: int = 0
    uploaded_bytes: int = 0
    relay_paid_bytes: int = 0
    gets: int = 0
    puts: int = 0
    lists: int = 0
    cost: float = 0.0
    egress_cost: float = 0.0
    requests_cost: float = 0.0
    turn_cost: float = 0.0
    peers_cost: float = 0.0
    without_peers: float = 0.0
    without_cache: float = 0.0
    without_both: float = 0.0
    saved: float = 0.0


@dataclass(frozen=True)
class LaneCost:
    """Bytes that came and went by one lane, and what they cost (requests are the origin's)."""

    lane: str
    down_bytes: int
    up_bytes: int
    cost: float


@dataclass(frozen=True)
class ModelCost:
    """One model, on this node alone; ``manifest_id`` is empty for what belongs to none."""

    manifest_id: str
    name: str
    figures: CostFigures


@dataclass(frozen=True)
class NodeCost:
    """One node's part. ``age_s``: how old its report is; None for this node, which needs none."""

    node_id: str
    name: str
    here: bool
    age_s: float | None
    figures: CostFigures


@dataclass(frozen=True)
class RoomCost:
    """One room over all nodes that report.

    ``reported`` of ``members`` are counted in ``figures`` and ``lanes``: of the members that have
    written in the room or are present. ``stored_bytes`` is what the origin keeps now, at
    ``storage_per_month``, which is in no other sum.
    """

    room: str
    room_id: str
    members: int
    reported: int
    figures: CostFigures
    lanes: tuple[LaneCost, ...]
    nodes: tuple[NodeCost, ...]
    stored_bytes: int = 0
    storage_per_month: float = 0.0


@dataclass(frozen=True)
class CostAlert:
    """A threshold of this node: what it is at in ``period`` (a day or month, UTC)."""

    name: str
    limit: float
    value: float
    period: str
    crossed: bool


@dataclass(frozen=True)
class CostReport:
    """What was moved and paid in a month (``YYYY-MM``, UTC), or with None in all that is kept.

    ``this_node`` is its part in the rooms asked for, ``first_month`` the first that it has on
    record; ``prices`` by the names of their settings.
    """

    month: str | None
    first_month: str
    currency: str
    prices: dict[str, Any]
    this_node: CostFigures
    lanes: tuple[LaneCost, ...]
    models: tuple[ModelCost, ...]
    rooms: tuple[RoomCost, ...]
    alerts: tuple[CostAlert, ...] = ()


class Costs(Protocol):
    """The facet of a node that says what it costs."""

    async def read(self, month: str | None, room: str | None) -> CostReport:
        """Return what a room, or each of this node's, moved and paid.

        Raises:
            InputError: the month can't be read.
            NoMatchError: there is no such room.
        """
        ...
