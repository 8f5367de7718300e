"""This node in one room: its trackers, view of the registry, links, and what it shares."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial

from dreamer.daemon.direct.lane import DirectLane
from dreamer.daemon.direct.room import DirectRoom
from dreamer.daemon.links.ice import RoomIce
from dreamer.daemon.links.link import Fanout
from dreamer.daemon.links.neighbours import Neighbours
from dreamer.daemon.links.room_links import RoomLinks
from dreamer.daemon.links.vanishing import Vanishing
from dreamer.daemon.rendezvous.events import (
    MemberGone,
    MemberPresent,
    RegistryChanged,
    RendezvousEvent,
    RevocationReceived,
    SignalReceived,
    TrackerDown,
    TrackerUp,
    TurnRenewed,
    Unreachable,
)
from dreamer.daemon.rendezvous.revocation_couriers import RevocationCourier
from dreamer.daemon.rendezvous.session import TrackerSession
from dreamer.daemon.rendezvous.signals import Signals
from dreamer.daemon.rendezvous.trackers import Trackers
from dreamer.daemon.room.book import Membership
from dreamer.daemon.room.members import Members
from dreamer.daemon.room.parts import RoomParts
from dreamer.daemon.room.presence import Presence
from dreamer.daemon.room.registry_documents import TrackerDocuments
from dreamer.daemon.room.removal import Removals
from dreamer.daemon.room.report_courier import ReportCourier
from dreamer.daemon.room.revocation_exchange import RevocationExchange
from dreamer.daemon.room.room_registry import RoomRegistry
from dreamer.daemon.sharing.objects import ObjectFetcher
from dreamer.daemon.sharing.serving import Serving
from dreamer.daemon.state import Ban
from dreamer.daemon.transport.vocabulary import RenewTurn
from dreamer.daemon.wakefulness import Wakefulness
from dreamer.protocol import canonical
from dreamer.protocol.canonical import Json
from dreamer.protocol.ids import InfoHash, ManifestId, NodeId, RoomId, short
from dreamer.protocol.limits import BAN_S
from dreamer.protocol.link.direct import DIRECT
from dreamer.protocol.link.gossip import GOSSIP
from dreamer.protocol.link.handshake import Party
from dreamer.protocol.registry.changes import Author
from dreamer.protocol.registry.membership import member_verifier
from dreamer.protocol.registry.view import Model, Registry
from dreamer.protocol.rooms.card import swarm_hash
from dreamer.protocol.rooms.membership import chain_to_json
from dreamer.protocol.rooms.revocations import Revocation
from dreamer.protocol.swarm.holders import Found

log = logging.getLogger(__name__)

TICK_S = 1.0
ANNOUNCE_DELAY_S = 0.2


class RoomSession:
    """A room this node is in; ``run`` keeps it going until cancelled."""

    def __init__(self, membership: Membership, parts: RoomParts) -> None:
        self.membership = membership
        self.card = membership.card
        self.fanout = Fanout()
        self.at_close: list[Callable[[], object]] = []
        """What else ends when this node leaves the room."""
        self._parts = parts
        self._members = Members(membership.card.room_id, parts.state)
        self._presence = Presence()
        self._announcing = False
        self._wakefulness = Wakefulness()
        self.sessions = [self._session(url) for url in self.card.trackers]
        self.trackers = Trackers(self.card.name, self.sessions)
        self._removals = Removals(
            *(membership, parts.identity, self._members, self.trackers), spread=self._removed
        )
        self._ice = RoomIce(parts.ice, self._lent_servers)
        self.links = self._make_links()
        self.neighbours = self._make_neighbours()
        self._signals = Signals(
            *(self.sessions, self._presence, self.neighbours.pass_on),
            give_up=self.links.unreachable,
            tasks=parts.tasks,
        )
        self._couriers = {one.url: self._make_courier(one) for one in self.sessions}
        self._revocations = self._make_exchange()
        self.objects = ObjectFetcher(parts.numbers)
        self._documents = self._make_documents()
        kept = self._make_registry()
        self.registry, self._view, self.prove_registry = kept.client, kept.view, kept.prove
        self.at_close.append(kept.follow(parts.rng))
        serving = Serving(
            *(self.room_id, parts.library, parts.places, parts.damaged, parts.tasks),
            own_object=kept.exchange.get,
            pace=parts.pace,
        )
        gone = Vanishing(self.links, self.fanout, lambda: self.connected or not self.sessions)
        self._presence.vanished = gone.told
        for one in (self.neighbours, self._revocations, self.objects, kept.exchange, serving, gone):
            self.fanout.add(one)
        self.at_close.append(serving.close)
        self._direct = self._make_direct()
        parts.library.listen(self._library_changed)

    @property
    def room_id(self) -> RoomId:
        """The room's key."""
        return self.card.room_id

    @property
    def present(self) -> dict[NodeId, Json]:
        """The members that trackers or neighbours report, with what they say that they can do."""
        return {**self.neighbours.known, **self._presence.members}

    def said_by(self, node: NodeId) -> Json | None:
        """Return what a present member says that it can do; None: it is not present."""
        # Not by ``present``, which puts a thousand members together for each that is asked for.
        said = self._presence.members.get(node)
        return self.neighbours.known.get(node) if said is None else said

    @property
    def connected(self) -> bool:
        """Whether at least one tracker is there."""
        return bool(self.trackers.connected)

    async def run(self) -> None:
        """Keep trackers, links and announcements going."""
        self.refresh_presence()
        async with asyncio.TaskGroup() as group:
            for session in self.sessions:
                group.create_task(session.run())
            while True:
                await asyncio.sleep(TICK_S)
                if self._wakefulness.slept():
                    self.links.woke()
                    self.trackers.woke()
                self.links.tick()
                if self._direct is not None:
                    self._direct.tick()
                self.neighbours.tick(self._others_present())

    async def wait_connected(self) -> None:
        """Return once a tracker has let this node in, at once in a room without any."""
        if self.card.trackers:
            await self.trackers.wait_connected()

    # Who is here

    async def seek(self, manifest_id: ManifestId) -> Found:
        """Return the present members that hold or are fetching a model, this one perhaps, too."""
        found = await self.trackers.seek(swarm_hash(self.card.swarm_secret, manifest_id))
        if not found.nodes and not (self.connected and self.trackers.all_connected):
            found = Found(tuple(await self.neighbours.seek(manifest_id)))
        return found

    async def holders(self, manifest_id: ManifestId) -> list[NodeId]:
        """Return the other members that hold or are fetching a model, some of them if many do."""
        found = await self.seek(manifest_id)
        return [node for node in found.nodes if node != self._parts.identity.node_id]

    def _others_present(self) -> list[NodeId]:
        ours = self._parts.identity.node_id
        return [node for node in self._presence.members if node != ours]

    def refresh_presence(self) -> None:
        """Tell trackers and peers what this node can do now."""
        capabilities = self._capabilities()
        for session in self.sessions:
            session.present(capabilities)
        self.links.update_capabilities(canonical.dumps(capabilities))

    def _capabilities(self) -> Json:
        direct = {} if self._parts.direct is None else {DIRECT: 1}
        return {**self._parts.capabilities(), GOSSIP: 1, **direct}

    def name_of(self, node: NodeId) -> str:
        """Return what a member calls itself; empty when unknown."""
        if link := self.links.link(node):
            return link.name
        name = (self.said_by(node) or {}).get("name")
        return name[:64] if isinstance(name, str) and name.isprintable() else ""

    def roles_of(self, node: NodeId) -> tuple[str, ...]:
        """Return the roles of this node, or of a member that has been linked; else none."""
        ours = node == self._parts.identity.node_id
        return tuple(self.membership.roles if ours else self._members.roles(node))

    async def remove_member(self, ref: str) -> NodeId:
        """End the membership of the node that ``ref`` names; see ``Removals.remove``."""
        return await self._removals.remove(ref, self.known_members())

    def known_members(self) -> Iterator[NodeId]:
        """Yield the members that are present, linked, or have written; some of them twice."""
        yield from self.present
        yield from (link.peer for link in self.links.links)
        yield from self._view.authors()

    def punish(self, node: NodeId, reason: str) -> None:
        """Ban a node for a while and drop its link."""
        log.warning("banning %s for %.0f s: it %s", short(node), BAN_S, reason)
        self._parts.state.put_ban(Ban(node, time.time() + BAN_S, reason))
        self.links.drop(node, f"it {reason}")

    def part(self, node: NodeId) -> None:
        """Give up the link to a member, unless something is under way on it."""
        link = self.links.link(node)
        if link is not None and not self.fanout.uses(link):
            self.links.drop(node, "others need its links more")

    # The registry

    @property
    def registry_changed(self) -> list[Callable[[], None]]:
        """Who is called when the registry says something else than before."""
        return self._view.changed

    async def read_registry(self) -> Registry:
        """Return the registry; see ``RegistryView.read``."""
        return (await self._view.read()).registry

    def registry_known(self) -> Registry | None:
        """Return the registry as it was read or changed last, asking nobody; None: it never was."""
        # What this node itself changed is not read again before it counts.
        latest = self.registry.known or self._view.latest
        return latest.registry if latest is not None else None

    async def resolve(self, ref: str) -> Model:
        """Return the model that a reference names in this room; see ``RegistryView.resolve``."""
        return await self._view.resolve(ref)

    # Making the parts

    def _session(self, url: str) -> TrackerSession:
        return TrackerSession(
            self._parts.http,
            url,
            self.card,
            self.membership.chain,
            self._parts.identity.key,
            self._parts.rng,
            partial(self._rendezvous, url),
        )

    def _make_links(self) -> RoomLinks:
        party = Party(
            self.room_id,
            self._parts.identity.key,
            canonical.dumps({"chain": chain_to_json(self.membership.chain)}),
            canonical.dumps(self._capabilities()),
        )
        return RoomLinks(
            party,
            self._parts.transport,
            self._members.verify,
            self._shunned,
            lambda peer, body: self._signals.send(peer, body),
            self.fanout,
            self._ice,
            self._parts.rng,
            time.monotonic,
        )

    def _shunned(self, node: NodeId) -> bool:
        # Gossip may name a removed node for as long as one member hasn't heard of its end.
        return self._members.ended(node) or self._parts.state.ban(node, time.time()) is not None

    def _lent_servers(self) -> Iterator[dict[str, str]]:
        for session in self.sessions:
            yield from session.turn_servers

    def _make_neighbours(self) -> Neighbours:
        return Neighbours(
            *(self._parts.identity.node_id, self.links),
            holds=lambda manifest_id: (
                self._parts.library.find(self.room_id, manifest_id) is not None
            ),
            deliver=self.links.signal_received,
            wanted=self._parts.mesh_links,
            rng=self._parts.rng,
            clock=time.monotonic,
        )

    def _make_direct(self) -> DirectLane | None:
        parts = self._parts
        if parts.direct is None:
            return None
        room = DirectRoom(
            *(parts.direct, parts.identity.node_id, self.fanout, self.links.drop),
            *(parts.tasks, parts.rng, time.monotonic, asyncio.get_running_loop()),
        )
        lane = DirectLane(room)
        self.fanout.add(lane)
        self.at_close.append(lane.close)
        return lane

    def _make_courier(self, session: TrackerSession) -> RevocationCourier:
        known, parts = self._members.revocations.known, self._parts
        return RevocationCourier(session, known, parts.rng, parts.tasks)

    def _make_exchange(self) -> RevocationExchange:
        known = self._members.revocations.known
        return RevocationExchange(known, self._removals.heard, lambda: not self.connected)

    def _make_documents(self) -> TrackerDocuments:
        parts = self._parts
        return TrackerDocuments(
            self.card, self.sessions, self.membership.writes, parts.rng, parts.tasks
        )

    def _make_registry(self) -> RoomRegistry:
        parts = self._parts
        author = Author(parts.identity.key, chain_to_json(self.membership.chain))
        judge = member_verifier(self._members.revocations.ended)
        handed_in = self.sessions and not self.membership.writes
        return RoomRegistry(
            *(self.card, parts.state, self._documents, author, judge, self.objects),
            tracker_there=lambda: self.connected,
            tasks=parts.tasks,
            at_origin=parts.registry_at and partial(parts.registry_at, self.card),
            writes=self.membership.writes,
            deliver=ReportCourier(self.card, self.sessions).deliver if handed_in else None,
        )

    # What trackers and the library report

    def _rendezvous(self, tracker: str, event: RendezvousEvent) -> None:
        match event:
            case MemberPresent(node, capabilities):
                self._presence.arrived(tracker, node, capabilities)
            case MemberGone(node):
                self._presence.left(tracker, node)
            case TrackerDown():
                self._presence.lost(tracker)
                self._couriers[tracker].left()
            case SignalReceived(node, body):
                self.links.signal_received(node, body)
            case Unreachable(node):
                self._signals.unreachable(tracker, node)
            case RevocationReceived(revocation):
                self._couriers[tracker].heard(revocation)
                self._removals.heard(revocation)
            case TrackerUp():
                self._couriers[tracker].arrived()
                self._documents.returned(tracker)
                self._view.moved()
            case TurnRenewed():
                self._renew_turn()
            case RegistryChanged() if self._documents.changed_at(tracker):
                self._view.moved()

    def _renew_turn(self) -> None:
        """Have links that stand know what their relays may ask for."""
        for link in self.links.links:
            self._parts.transport.send(RenewTurn(link.number, list(self._ice.servers)))

    def _removed(self, revocation: Revocation) -> None:
        """Pass a revocation on, and part from everybody whose membership rests on its node."""
        self._revocations.tell(revocation)
        for link in list(self.links.links):
            if self._members.ended(link.peer):
                self.links.drop(link.peer, "its membership was ended")
        self.registry.doubt()
        self._view.moved()
        for courier in self._couriers.values():
            courier.compare()

    def _library_changed(self, room: RoomId, manifest_id: ManifestId, blocks: int) -> None:
        if room == self.room_id and not self._announcing:
            self._announcing = True
            asyncio.get_running_loop().call_later(ANNOUNCE_DELAY_S, self._announce)

    def _announce(self) -> None:
        self._announcing = False
        have: list[InfoHash] = []
        want: list[InfoHash] = []
        for found in self._parts.library.in_room(self.room_id):
            swarm = swarm_hash(self.card.swarm_secret, found.manifest_id)
            (have if found.whole else want).append(swarm)
        for session in self.sessions:
            session.announce(have=have, want=want)

    def close(self) -> None:
        """Say goodbye to every peer and give back what the node lent to the room."""
        self.links.close()
        self._parts.library.stop_listening(self._library_changed)
        for end in self.at_close:
            end()
        self._parts.library.withdraw_room(self.room_id)
