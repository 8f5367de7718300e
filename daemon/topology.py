"""A room as this node knows it, read together for the simulator: see ``protocol/topology``.

Everything here is known already, or one question to the trackers: who shares a model is asked of
them as for any pull, and nobody is linked to, or measured, for the sake of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dreamer.daemon.links.link import Link
from dreamer.daemon.links.link_rates import LinkRates
from dreamer.daemon.links.relays import Relays
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.pace import minute_of_day
from dreamer.daemon.sharing.puller import Puller
from dreamer.daemon.store.store import Store
from dreamer.protocol.ids import NodeId, short
from dreamer.protocol.registry.view import Model
from dreamer.protocol.shaping.rates import Limits
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.holders import Found
from dreamer.protocol.topology import (
    Budget,
    LinkSeen,
    MemberSeen,
    ModelSeen,
    NodeSeen,
    RelayUse,
    StoreSeen,
    Topology,
)

UNKNOWN_NAT = "unknown"
"""ICE finds a way without telling what stood in it, so nothing else can be said in truth."""


@dataclass
class TopologyReader:
    """What is read, of all rooms. ``wall``: epoch seconds."""

    us: NodeId
    store: Store
    library: Library
    puller: Puller
    relays: Relays
    rates: LinkRates
    limits: Limits
    wall: Callable[[], float] = time.time

    async def read(self, session: RoomSession) -> Topology:
        """Return one room as it is now.

        Raises:
            DreamerError: the room's registry can't be read.
        """
        registry = await session.read_registry()
        models = sorted(registry.models.values(), key=lambda one: (-one.at, one.manifest_id))
        answers = await asyncio.gather(*(session.seek(one.manifest_id) for one in models))
        links = {link.peer: link for link in session.links.links}
        known = dict.fromkeys(
            [*links, *session.present, *(node for found in answers for node in found.nodes)]
        )
        names = _pseudonyms(self.us, known)
        return Topology(
            taken_at=int(self.wall()),
            room=short(session.room_id),
            node=await self._node(names),
            origin=session.card.origin is not None,
            trackers=len(session.card.trackers),
            members=tuple(
                MemberSeen(names[node], UNKNOWN_NAT, self._link(links.get(node)))
                for node in known
                if node != self.us
            ),
            models=tuple(
                self._model(session, model, found, names)
                for model, found in zip(models, answers, strict=True)
            ),
        )

    async def _node(self, names: Mapping[NodeId, str]) -> NodeSeen:
        usage = await asyncio.to_thread(self.store.usage)
        limits = self.limits.at(minute_of_day())
        now, budgets = self.wall(), self.relays.budget.budgets
        return NodeSeen(
            id=names[self.us],
            up_limit_bytes_s=limits.up,
            down_limit_bytes_s=limits.down,
            measured=self.rates.of_node(),
            relay_budget=Budget(
                budgets.per_peer_bytes,
                budgets.per_day_bytes,
                budgets.per_month_bytes,
                self.relays.budget.used_in_day(now),
                sum(self.relays.budget.used_in_month(now).values()),
            ),
            store=StoreSeen(usage.content_bytes, usage.partial_bytes, usage.free_bytes),
        )

    def _link(self, link: Link | None) -> LinkSeen | None:
        if link is None:
            return None
        measured, over = self.rates.of_link(link)
        now, budget = self.wall(), self.relays.budget
        month = budget.used_in_month(now).get(link.peer, 0)
        # Who was never relayed has a budget too, which would say nothing about this room.
        relay = RelayUse(month, budget.left(link.peer, now)) if month or link.relayed else None
        return LinkSeen(
            lane=link.lane.value,
            rtt_s=link.rtt_s,
            measured=measured,
            measured_over=over.value if over else None,
            relay=relay,
            lan=link.lan,
        )

    def _model(
        self, session: RoomSession, model: Model, found: Found, names: Mapping[NodeId, str]
    ) -> ModelSeen:
        others = [node for node in found.nodes if node != self.us]
        offered = self.library.find(session.room_id, model.manifest_id)
        here = 0
        if offered is not None:
            sizes = offered.manifest.layout.block_size
            parts = () if offered.whole else bitfield.members(offered.blocks)
            here = model.size_bytes if offered.whole else sum(map(sizes, parts))
        return ModelSeen(
            id=short(model.manifest_id),
            name=model.name,
            size_bytes=model.size_bytes,
            files=model.files,
            here_bytes=here,
            pulling=self.puller.is_pulling(model.manifest_id),
            sharers=tuple(names[node] for node in others),
            whole=tuple(names[node] for node in others if node in found.whole),
        )


def _pseudonyms(us: NodeId, known: Iterable[NodeId]) -> dict[NodeId, str]:
    """Return how each node goes in the document: its short id, told apart where two are equal."""
    # Anybody can draw keys until one begins like a member's.
    names: dict[NodeId, str] = {}
    taken: dict[str, int] = {}
    for node in dict.fromkeys([us, *known]):
        name = short(node)
        taken[name] = taken.get(name, 0) + 1
        names[node] = name if taken[name] == 1 else f"{name}-{taken[name]}"
    return names
