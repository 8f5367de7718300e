"""This node in one room: its trackers, view of the registry, links, and what it shares."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random

import aiohttp

from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.links.link import Fanout, Link
from dreamer.daemon.links.room_links import IceSettings, RoomLinks, TransportPort
from dreamer.daemon.members import Members, find_member
from dreamer.daemon.presence import Presence
from dreamer.daemon.registry import RegistryClient
from dreamer.daemon.registry_documents import TrackerDocuments
from dreamer.daemon.registry_view import RegistryView
from dreamer.daemon.rendezvous.events import (
    MemberGone,
    MemberPresent,
    RegistryChanged,
    RendezvousEvent,
    RevocationReceived,
    SignalReceived,
    TrackerDown,
    TrackerUp,
    Unreachable,
)
from dreamer.daemon.rendezvous.session import TrackerSession
from dreamer.daemon.revocations import sign_revocation
from dreamer.daemon.rooms import Membership
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.objects import ObjectFetcher
from dreamer.daemon.sharing.serving import BlockPlaces, Serving
from dreamer.daemon.state import Ban, CachedRegistry, State
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol import canonical
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import (
    DreamerError,
    ForbiddenError,
    InputError,
    LocalError,
    RemoteError,
)
from dreamer.protocol.ids import InfoHash, ManifestId, NodeId, RoomId, short
from dreamer.protocol.limits import BAN_S, REMOVAL_TIMEOUT_S, TRACKER_CONNECT_TIMEOUT_S
from dreamer.protocol.link.handshake import Party
from dreamer.protocol.registry.changes import Author
from dreamer.protocol.registry.document import parse as parse_document
from dreamer.protocol.registry.membership import member_verifier
from dreamer.protocol.registry.view import Model, Registry
from dreamer.protocol.rooms.card import swarm_hash
from dreamer.protocol.rooms.membership import chain_to_json
from dreamer.protocol.rooms.revocations import Revocation

log = logging.getLogger(__name__)

TICK_S = 1.0
ANNOUNCE_DELAY_S = 0.2


@dataclass(frozen=True)
class RoomParts:
    """What a node lends to each of its rooms."""

    identity: NodeIdentity
    http: aiohttp.ClientSession
    transport: TransportPort
    state: State
    places: BlockPlaces
    library: Library
    ice: IceSettings
    capabilities: Callable[[], Json]
    damaged: Callable[[ManifestId], None]
    numbers: Iterator[int]
    rng: Random
    tasks: TaskSet


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
        self._removing: dict[bytes, asyncio.Future[None]] = {}
        self.sessions = [self._session(url) for url in self.card.trackers]
        self.links = self._make_links()
        self.objects = ObjectFetcher(parts.numbers)
        self.fanout.add(self.objects)
        serving = Serving(self.room_id, parts.library, parts.places, parts.damaged, parts.tasks)
        self.fanout.add(serving)
        self.at_close.append(serving.close)
        self.registry = self._make_registry()
        self._view = RegistryView(self.card.name, self.registry, parts.tasks)
        parts.library.listen(self._library_changed)

    @property
    def room_id(self) -> RoomId:
        """The room's key."""
        return self.card.room_id

    @property
    def present(self) -> dict[NodeId, Json]:
        """The members that a tracker reports, with what they say that they can do."""
        return self._presence.members

    @property
    def connected(self) -> bool:
        """Whether at least one tracker is there."""
        return any(session.connected for session in self.sessions)

    async def run(self) -> None:
        """Keep trackers, links and announcements going."""
        self.refresh_presence()
        async with asyncio.TaskGroup() as group:
            for session in self.sessions:
                group.create_task(session.run())
            while True:
                await asyncio.sleep(TICK_S)
                self.links.tick()

    async def wait_connected(self) -> None:
        """Return once a tracker has let this node in.

        Raises:
            RemoteError: no tracker can be reached.
            ForbiddenError: the tracker refuses this membership.
        """
        last: DreamerError = RemoteError(f"room {self.card.name} has no tracker")
        for session in self.sessions:
            try:
                await session.wait_connected(TRACKER_CONNECT_TIMEOUT_S)
            except DreamerError as error:
                last = error
            else:
                return
        raise last

    # Who is here

    async def holders(self, manifest_id: ManifestId) -> list[NodeId]:
        """Return the present members that hold or are fetching a model."""
        swarm = swarm_hash(self.card.swarm_secret, manifest_id)
        found: dict[NodeId, None] = {}
        for session in self.sessions:
            if session.connected:
                try:
                    found |= dict.fromkeys(await session.seek(swarm))
                except RemoteError as error:
                    log.info("can't ask %s who holds a model: %s", self.card.name, error)
        found.pop(self._parts.identity.node_id, None)
        return list(found)

    def refresh_presence(self) -> None:
        """Tell trackers and peers what this node can do now."""
        capabilities = self._parts.capabilities()
        for session in self.sessions:
            session.present(capabilities)
        self.links.update_capabilities(canonical.dumps(capabilities))

    def name_of(self, node: NodeId) -> str:
        """Return what a member calls itself; empty when unknown."""
        if link := self.links.link(node):
            return link.name
        name = self.present.get(node, {}).get("name")
        return name[:64] if isinstance(name, str) and name.isprintable() else ""

    async def remove_member(self, ref: str) -> NodeId:
        """End the membership of the node that ``ref`` names, once a tracker has taken note.

        Raises:
            ForbiddenError: this node may not.
            InputError: it names no node, none that is known, or several; or this one.
            RemoteError: no tracker took note of it in time.
        """
        identity, ended = self._parts.identity, self._members.revocations.ended
        node = find_member(ref, self._known_members())
        if node == identity.node_id:
            raise InputError("that is this node itself: use 'dreamer room leave'")
        made = sign_revocation(self.membership, identity, node, ended.next_number, time.time())
        self._members.check_ends(made)
        noted = self._removing[made.signature] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(REMOVAL_TIMEOUT_S):
                await self._tell_trackers(made)
                await noted
        except TimeoutError:
            raise RemoteError(
                f"no tracker of room {self.card.name} has confirmed it in "
                f"{REMOVAL_TIMEOUT_S:.0f} s: see dreamerd's log, and remove the node again"
            ) from None
        finally:
            del self._removing[made.signature]
        return node

    async def _tell_trackers(self, revocation: Revocation) -> None:
        last = RemoteError(f"room {self.card.name} has no tracker")
        told = False
        for session in self.sessions:
            try:
                await session.revoke(revocation)
                told = True
            except RemoteError as error:
                last = error
        if not told:
            raise last

    def _known_members(self) -> Iterator[NodeId]:
        yield from self.present
        yield from (link.peer for link in self.links.links)
        yield from self._view.authors()

    def punish(self, node: NodeId, reason: str) -> None:
        """Ban a node for a while and drop its link."""
        log.warning("banning %s for %.0f s: it %s", short(node), BAN_S, reason)
        self._parts.state.put_ban(Ban(node, time.time() + BAN_S, reason))
        self.links.drop(node, f"it {reason}")

    # The registry

    async def read_registry(self) -> Registry:
        """Return the registry; see ``RegistryView.read``."""
        return (await self._view.read()).registry

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
            canonical.dumps(self._parts.capabilities()),
        )
        return RoomLinks(
            party,
            self._parts.transport,
            self._members.verify,
            lambda node: self._parts.state.ban(node, time.time()) is not None,
            self._send_signal,
            self.fanout,
            self._parts.ice,
            self._parts.rng,
            time.monotonic,
        )

    def _make_registry(self) -> RegistryClient:
        cached = self._parts.state.registry(self.room_id)
        seen = None
        if cached is not None:
            try:
                seen = parse_document(cached.document, self.room_id)
            except DreamerError as error:
                log.warning("the cached registry of %s is damaged: %s", self.card.name, error)
        author = Author(self._parts.identity.key, chain_to_json(self.membership.chain))
        documents = TrackerDocuments(self.card, self.sessions)
        judge = member_verifier(self._members.revocations.ended)
        keep = self._keep_registry
        return RegistryClient(self.room_id, documents, author, judge, seen=seen, keep=keep)

    def _keep_registry(self, document: bytes, etag: str) -> None:
        self._parts.state.put_registry(self.room_id, CachedRegistry(etag, document))

    # What trackers and the library report

    def _rendezvous(self, tracker: str, event: RendezvousEvent) -> None:
        match event:
            case MemberPresent(node, capabilities):
                self._presence.arrived(tracker, node, capabilities)
            case MemberGone(node):
                self._presence.left(tracker, node)
            case TrackerDown():
                self._presence.lost(tracker)
            case SignalReceived(node, body):
                self.links.signal_received(node, body)
            case Unreachable(node):
                self.links.unreachable(node)
            case RevocationReceived(revocation):
                self._revoke(revocation)
            case TrackerUp() | RegistryChanged():
                self._view.moved()

    def _revoke(self, revocation: Revocation) -> None:
        try:
            is_new = self._members.take(revocation)
        except ForbiddenError as error:
            log.warning("ignored a revocation: %s", error)
            return
        except LocalError as error:
            log.error("a revocation counts only until this node restarts: %s", error)
            is_new = True
        noted = self._removing.get(revocation.signature)
        if noted is not None and not noted.done():
            noted.set_result(None)
        if is_new:
            self._drop_the_ended()

    def _drop_the_ended(self) -> None:
        """Part from everybody whose membership rests on a node that was removed."""
        for link in list(self.links.links):
            if self._members.ended(link.peer):
                self.links.drop(link.peer, "its membership was ended")
        self.registry.doubt()
        self._view.moved()

    def _send_signal(self, peer: NodeId, body: Json) -> None:
        self._parts.tasks.start(self._signal(peer, body))

    async def _signal(self, peer: NodeId, body: Json) -> None:
        for session in self.sessions:
            if session.connected:
                try:
                    await session.signal(peer, body)
                except RemoteError as error:
                    log.info("can't signal %s: %s", short(peer), error)
                else:
                    return
        self.links.unreachable(peer)

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


def serves(capabilities: Json) -> bool:
    """Return whether capabilities say that a node runs models for others."""
    return capabilities.get("serves") is True


def linked_first(links: list[Link]) -> list[Link]:
    """Return links by round trip, the quickest first."""
    return sorted(links, key=lambda link: link.rtt_s if link.rtt_s is not None else 1e9)
