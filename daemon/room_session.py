"""This node in one room: its trackers, view of the registry, links, and what it shares."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import aiohttp

from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.links.link import Fanout, Link
from dreamer.daemon.links.room_links import IceSettings, RoomLinks, TransportPort
from dreamer.daemon.registry import RegistryClient
from dreamer.daemon.registry_documents import TrackerDocuments
from dreamer.daemon.rendezvous.events import (
    MemberGone,
    MemberPresent,
    RegistryChanged,
    RendezvousEvent,
    RevocationReceived,
    SignalReceived,
    TrackerUp,
    Unreachable,
)
from dreamer.daemon.rendezvous.session import TrackerSession
from dreamer.daemon.rooms import Membership
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.objects import ObjectFetcher
from dreamer.daemon.sharing.serving import BlockPlaces, Serving
from dreamer.daemon.state import Ban, State
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol import canonical
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import (
    DreamerError,
    ForbiddenError,
    InputError,
    NoMatchError,
    RemoteError,
    RemoteProtocolError,
)
from dreamer.protocol.ids import InfoHash, ManifestId, NodeId, RoomId, short
from dreamer.protocol.limits import BAN_S, TRACKER_CONNECT_TIMEOUT_S
from dreamer.protocol.link.handshake import Party
from dreamer.protocol.registry.changes import Author
from dreamer.protocol.registry.document import parse as parse_document
from dreamer.protocol.registry.membership import member_verifier
from dreamer.protocol.registry.resolve import resolve
from dreamer.protocol.registry.view import Model, Registry, Verified
from dreamer.protocol.rooms.card import swarm_hash
from dreamer.protocol.rooms.membership import (
    chain_to_json,
    parse_chain,
    verify_chain,
)
from dreamer.protocol.rooms.revocations import Revocation, RevocationSet

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
        self.present: dict[NodeId, Json] = {}
        self.revoked = RevocationSet(membership.card.room_id)
        self.fanout = Fanout()
        self._parts = parts
        self._announcing = False
        self.sessions = [self._session(url) for url in self.card.trackers]
        self.links = self._make_links()
        self.objects = ObjectFetcher(parts.numbers)
        self.fanout.add(self.objects)
        self.fanout.add(
            Serving(self.room_id, parts.library, parts.places, parts.damaged, parts.tasks)
        )
        self.registry = self._make_registry()
        parts.library.listen(self._library_changed)

    @property
    def room_id(self) -> RoomId:
        """The room's key."""
        return self.card.room_id

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

    def punish(self, node: NodeId, reason: str) -> None:
        """Ban a node for a while and drop its link."""
        log.warning("banning %s for %.0f s: it %s", short(node), BAN_S, reason)
        self._parts.state.put_ban(Ban(node, time.time() + BAN_S, reason))
        self.links.drop(node, f"it {reason}")

    # The registry

    async def read_registry(self) -> Registry:
        """Return the registry, read anew where a tracker can be reached, else as last seen.

        Raises:
            RemoteError: no tracker is there and nothing was seen before.
        """
        return (await self._read_verified()).registry

    async def _read_verified(self) -> Verified:
        try:
            verified = await self.registry.refresh()
        except RemoteError:
            known = await self.registry.recall()
            if known is None:
                raise
            verified = known
        for report in verified.reports:
            log.warning("room %s: %s", self.card.name, report)
        return verified

    async def resolve(self, ref: str) -> Model:
        """Return the model that a reference names in this room.

        Raises:
            NoMatchError: it names nothing, or only what can't be believed.
            AmbiguousError: it names several models.
        """
        verified = await self._read_verified()
        try:
            return resolve(verified.registry, ref)
        except NoMatchError as error:
            for report in verified.reports:
                if report.concerns(ref):
                    raise NoMatchError(
                        f"{ref!r:.80} is in the registry but can't be believed ({report}): ask its "
                        "publisher to push it again"
                    ) from error
            raise

    # Making the parts

    def _session(self, url: str) -> TrackerSession:
        return TrackerSession(
            self._parts.http,
            url,
            self.card,
            self.membership.chain,
            self._parts.identity.key,
            self._parts.rng,
            self._rendezvous,
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
            self._verify_peer,
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
        documents = TrackerDocuments(self.card, self.sessions, self._parts.state)
        judge = member_verifier(self.revoked)
        return RegistryClient(self.room_id, documents, author, judge, seen=seen)

    def _verify_peer(self, data: bytes) -> NodeId:
        try:
            chain = parse_chain(canonical.loads(data).get("chain"))
        except InputError as error:
            raise RemoteProtocolError(f"a membership that can't be read: {error}") from error
        member = verify_chain(self.room_id, chain, time.time())
        self.revoked.check(member)
        for admission in member.admissions:
            users = self._parts.state.use_invite(
                admission.invite_id, admission.node_id, time.time()
            )
            if admission.node_id not in users[: admission.uses]:
                raise ForbiddenError("its invitation had been used by another node before")
        return member.node_id

    # What trackers and the library report

    def _rendezvous(self, event: RendezvousEvent) -> None:
        match event:
            case MemberPresent(node, capabilities):
                self.present[node] = capabilities
            case MemberGone(node):
                self.present.pop(node, None)
            case SignalReceived(node, body):
                self.links.signal_received(node, body)
            case Unreachable(node):
                self.links.unreachable(node)
            case RevocationReceived(revocation):
                self._revoke(revocation)
            case TrackerUp() | RegistryChanged():
                self._parts.tasks.start(self._refresh_registry())

    def _revoke(self, revocation: Revocation) -> None:
        try:
            self.revoked.add(revocation, time.time())
        except ForbiddenError as error:
            log.warning("ignored a revocation: %s", error)
            return
        self.links.drop(revocation.node_id, "its membership was ended")

    async def _refresh_registry(self) -> None:
        try:
            await self.read_registry()
        except DreamerError as error:
            log.warning("can't read the registry of %s: %s", self.card.name, error)

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
        """Say goodbye to every peer."""
        self.links.close()


def serves(capabilities: Json) -> bool:
    """Return whether capabilities say that a node runs models for others."""
    return capabilities.get("serves") is True


def linked_first(links: list[Link]) -> list[Link]:
    """Return links by round trip, the quickest first."""
    return sorted(links, key=lambda link: link.rtt_s if link.rtt_s is not None else 1e9)
