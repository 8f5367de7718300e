"""Reads the ledger and the rooms' reports: the facet ``surfaces.costs.Costs``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from dreamer.daemon.costs.alerts import CostAlerts
from dreamer.daemon.costs.figures import figures_of, lanes_of
from dreamer.daemon.costs.ledger import Ledger, Span
from dreamer.daemon.room.keeper import RoomKeeper
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.state import State
from dreamer.daemon.surfaces.costs import CostReport, ModelCost, NodeCost, RoomCost
from dreamer.protocol.cache_limits import COST_MODELS_SHOWN
from dreamer.protocol.costs import (
    LANES,
    Entry,
    Prices,
    Usage,
    What,
    added,
    check_month,
    costs_of,
    from_words,
    storage_per_month,
)
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.registry.view import Registry


@dataclass
class CostReader:
    """What is read, of all rooms. ``wall``: epoch seconds."""

    us: NodeId
    name: str
    ledger: Ledger
    state: State
    rooms: RoomKeeper
    prices: Prices
    currency: str
    alerts: CostAlerts
    wall: Callable[[], float] = time.time

    async def read(self, month: str | None, room: str | None) -> CostReport:
        """Return what a room, or each of this node's, moved and paid."""
        span = Span() if month is None else Span.month(check_month(month))
        sessions = list(self.rooms.some(room))
        only = sessions[0].room_id if room is not None else None
        names: dict[ManifestId, str] = {}
        rooms = []
        for session in sessions:
            registry = await _registry(session)
            names |= {key: model.name for key, model in registry.models.items()}
            rooms.append(self._room(session, registry, month, span))
        usage = self.ledger.usage(span, only)
        return CostReport(
            month=month,
            first_month=next(iter(self.ledger.by_month(only)), self.ledger.today[:7]),
            currency=self.currency,
            prices=asdict(self.prices),
            this_node=figures_of(usage, self.prices),
            lanes=lanes_of(usage, self.prices),
            models=self._models(span, only, names),
            rooms=tuple(rooms),
            alerts=self.alerts.standing(),
        )

    def moved_by_lane(self) -> dict[str, int]:
        """Return the bytes that each lane ever brought, the store's own among them."""
        usage = self.ledger.usage()
        found = {lane: usage.get(Entry(lane, What.DOWN), 0) for lane in LANES}
        return {lane: size for lane, size in found.items() if size}

    def _models(
        self, span: Span, room: RoomId | None, names: Mapping[ManifestId, str]
    ) -> tuple[ModelCost, ...]:
        """Return the models that would have cost most, of no model last."""
        by_model = self.ledger.by_model(span, room)
        rest: Usage = by_model.get(None, {})
        found = {key: usage for key, usage in by_model.items() if key is not None}
        order = sorted(found.items(), key=lambda one: (-self._would_cost(one[1]), one[0]))
        # Their sum stays that of the whole.
        rest = added(rest, *(usage for _, usage in order[COST_MODELS_SHOWN:]))
        models = [
            ModelCost(
                key.hex(), names.get(key) or self._held_name(key), figures_of(usage, self.prices)
            )
            for key, usage in order[:COST_MODELS_SHOWN]
        ]
        if rest:
            models.append(ModelCost("", "", figures_of(rest, self.prices)))
        return tuple(models)

    def _held_name(self, manifest_id: ManifestId) -> str:
        held = self.state.model(manifest_id)
        return held.name if held is not None else ""

    def _would_cost(self, usage: Usage) -> float:
        return costs_of(usage, self.prices).without_both.total

    def _room(
        self, session: RoomSession, registry: Registry, month: str | None, span: Span
    ) -> RoomCost:
        usages = {
            node: added(
                *(
                    from_words(words)
                    for of_month, words in report.usage.items()
                    if month in (None, of_month)
                )
            )
            for node, report in registry.reports.items()
            if node != self.us
        }
        usages[self.us] = self.ledger.usage(span, session.room_id)
        total = added(*usages.values())
        stored = sum(
            model.stored.stored_bytes or model.stored.size_bytes
            for model in registry.models.values()
            if model.stored is not None and model.stored.origin_url is not None
        )
        return RoomCost(
            room=session.card.name,
            room_id=session.room_id.hex(),
            members=len({*usages, *session.known_members()}),
            reported=len(usages),
            figures=figures_of(total, self.prices),
            lanes=lanes_of(total, self.prices),
            nodes=tuple(
                self._node(session, registry, node, usage) for node, usage in usages.items()
            ),
            stored_bytes=stored,
            storage_per_month=storage_per_month(stored, self.prices),
        )

    def _node(
        self, session: RoomSession, registry: Registry, node: NodeId, usage: Usage
    ) -> NodeCost:
        here = node == self.us
        reported = registry.reports.get(node)
        name = self.name if here else session.name_of(node) or (reported.name if reported else "")
        age_s = None if here else max(0.0, self.wall() - registry.reported_at.get(node, 0.0))
        return NodeCost(node.hex(), name, here, age_s, figures_of(usage, self.prices))


async def _registry(session: RoomSession) -> Registry:
    """Return a room's registry; one that can't be read leaves this node's own part to show."""
    try:
        return await session.read_registry()
    except DreamerError:
        return Registry()
