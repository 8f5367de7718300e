"""Who could run a model: this node, and the linked members that serve it; what is known of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dreamer.daemon.links.link import Link
from dreamer.daemon.offload.adverts import Adverts
from dreamer.daemon.offload.local_models import LocalModels
from dreamer.daemon.room.presence import offload_version, serves
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.discovery import Discovery
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import ForbiddenError, RemoteError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.link.offload_messages import OFFLOAD_LEAST_VERSION
from dreamer.protocol.offload import Asking, Prefer, Runner, may_ask
from dreamer.protocol.offload_limits import (
    OFFLOAD_MEET_INTERVAL_S,
    OFFLOAD_REQUESTS_MAX_PER_LINK,
)
from dreamer.protocol.offload_rules import room_allows
from dreamer.protocol.registry.view import Model
from dreamer.protocol.swarm.holders import Found


@dataclass(frozen=True)
class Candidates:
    """Who could run a model now; ``here`` is None where it is not."""

    here: Runner | None
    peers: tuple[Runner, ...]
    links: dict[NodeId, Link]

    def without(self, tried: set[NodeId]) -> Candidates:
        """Return those that were not tried."""
        here = None if self.here is None or self.here.node in tried else self.here
        peers = tuple(peer for peer in self.peers if peer.node not in tried)
        return Candidates(here, peers, self.links)


@dataclass
class Scout:
    """Finds candidates. ``asking`` is this node's own setting ([offload] ask)."""

    node_id: NodeId
    here: LocalModels
    asking: Asking
    tasks: TaskSet
    adverts: dict[RoomId, Adverts] = field(default_factory=dict)
    doubts: Callable[[Link], bool] = lambda link: False
    """Whether a linked peer is silent when it should speak; such are left out."""
    under_way: Callable[[Link], int] = lambda link: 0
    """How many requests of this node a peer has, or will have; what it tells comes later."""
    clock: Callable[[], float] = time.monotonic
    _met_at: dict[tuple[RoomId, ManifestId], float] = field(default_factory=dict)
    _holders: dict[tuple[RoomId, ManifestId], frozenset[NodeId]] = field(default_factory=dict)

    async def find(
        self,
        session: RoomSession,
        model: Model,
        prefer: Prefer,
        tried: frozenset[NodeId] = frozenset(),
        version: int = OFFLOAD_LEAST_VERSION,
    ) -> Candidates:
        """Return who could run a model as asked, but for those that were ``tried``.

        Peers that are linked and have told that they run it are enough, so that no request waits
        while others are looked for; that is done beside it, now and then. ``version`` is what a
        peer must speak to understand the request.

        Raises:
            ForbiddenError: only peers could, and the room's rules keep this node from asking them.
            RemoteError: only peers could, and all that are linked speak an older version.
        """
        here = None
        held = self.here.held(session.room_id, model.manifest_id)
        if prefer != "peer" and held and self.node_id not in tried:
            here = self.here.runner(self.node_id, model.manifest_id)
        if not may_ask(prefer, self.asking):
            return Candidates(here, (), {})
        known = self._linked(session, model.manifest_id, tried)
        if known or (here is not None and prefer == "auto"):
            self._meet_later(session, model.manifest_id)
        else:
            await self._meet(session, model.manifest_id)
            known = self._linked(session, model.manifest_id, tried)
        if not known and here is not None:
            return Candidates(here, (), {})
        allowed = {link.peer: link for link in known if self._allowed(session, link)}
        if not allowed and here is None and self._forbidden(session):
            raise ForbiddenError(
                f"the room's rules let this node have none of the members that serve run "
                f"{model.name}: 'dreamer room offload' shows them, an admin changes them"
            )
        understand = {
            peer: link
            for peer, link in allowed.items()
            if offload_version(link.capabilities) >= version
        }
        if allowed and not understand and here is None:
            raise RemoteError(
                f"the members that run {model.name} have a version of dreamer that knows nothing "
                "of tools and thinking: update them, or pull the model and run it here"
            )
        allowed = understand
        peers = tuple(self._runner(session, link, model.manifest_id) for link in allowed.values())
        return Candidates(here, peers, allowed)

    def alone(self, session: RoomSession, model: Model, prefer: Prefer) -> Runner | None:
        """Return this node if a model is here, and nobody else can be asked just now anyway."""
        if prefer not in ("auto", "local") or not self.here.held(
            session.room_id, model.manifest_id
        ):
            return None
        if may_ask(prefer, self.asking):
            if session.links.links:
                return None
            self._meet_later(session, model.manifest_id)
        return self.here.runner(self.node_id, model.manifest_id)

    def forget(self, room: RoomId) -> None:
        """Forget a room that was left."""
        self.adverts.pop(room, None)
        for known in (self._met_at, self._holders):
            for key in [key for key in known if key[0] == room]:
                known.pop(key, None)

    def _linked(
        self, session: RoomSession, manifest_id: ManifestId, tried: frozenset[NodeId]
    ) -> list[Link]:
        """Return the linked members that serve a model: by their own word, or as its holders."""
        if not (links := session.links.links):
            return []
        held = self._holders.get((session.room_id, manifest_id), frozenset())
        adverts = self.adverts.get(session.room_id)
        return [
            link
            for link in links
            if serves(link.capabilities)
            and link.peer not in tried
            and not self.doubts(link)
            and (
                link.peer in held
                if adverts is None or adverts.heard(link) is None
                else adverts.of(link, manifest_id) is not None
            )
        ]

    def _allowed(self, session: RoomSession, link: Link) -> bool:
        registry = session.registry_known()
        if registry is None:
            return False
        roles = session.roles_of(self.node_id), session.roles_of(link.peer)
        return room_allows(registry.policy.offload, *roles)

    def _forbidden(self, session: RoomSession) -> bool:
        # They tell whom they may not serve nothing of their models, so any of them may be meant.
        return any(
            serves(link.capabilities) and not self._allowed(session, link)
            for link in session.links.links
        )

    def _runner(self, session: RoomSession, link: Link, manifest_id: ManifestId) -> Runner:
        adverts = self.adverts.get(session.room_id)
        told = adverts.of(link, manifest_id) if adverts is not None else None
        ours = self.under_way(link)
        if told is None:
            return Runner(link.peer, link.rtt_s, queued=ours)
        offering, model = told
        # More of ours it doesn't work at, whatever it could.
        slots = min(model.slots, OFFLOAD_REQUESTS_MAX_PER_LINK)
        running = max(model.running, min(ours, slots))
        return Runner(
            link.peer,
            link.rtt_s,
            offering.gpu,
            model.loaded,
            model.load_s or None,
            *(running, max(model.queued, ours - slots), slots),
            *(model.prefill_tokens_s or None, model.decode_tokens_s or None),
        )

    def _meet_later(self, session: RoomSession, manifest_id: ManifestId) -> None:
        key = (session.room_id, manifest_id)
        now = self.clock()
        if now - self._met_at.get(key, -OFFLOAD_MEET_INTERVAL_S) >= OFFLOAD_MEET_INTERVAL_S:
            self._met_at[key] = now
            self.tasks.start(self._meet(session, manifest_id))

    async def _meet(self, session: RoomSession, manifest_id: ManifestId) -> None:
        """Link to the holders of a model that serve."""
        key = (session.room_id, manifest_id)
        self._met_at[key] = self.clock()

        async def serving_holders() -> Found:
            holders = await session.holders(manifest_id)
            serving = tuple(one for one in holders if serves(session.present.get(one, {})))
            self._holders[key] = frozenset(serving)
            return Found(serving)

        await Discovery(session.links, serving_holders).meet()
