"""A node in one room, at trackers that are played here; links and memberships are real."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.links.ice import IceSettings
from dreamer.daemon.rendezvous.events import (
    MemberGone,
    MemberPresent,
    RegistryChanged,
    RevocationReceived,
    TrackerDown,
    TrackerUp,
    Unreachable,
)
from dreamer.daemon.room.book import Membership
from dreamer.daemon.room.parts import RoomParts
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.state import State
from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.transport.vocabulary import ControlReceived, LinkOpened, SendControl
from dreamer.protocol import canonical
from dreamer.protocol.errors import (
    AmbiguousError,
    ForbiddenError,
    InputError,
    NoMatchError,
    RemoteError,
)
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.limits import ROOM_MAX_REVOCATIONS
from dreamer.protocol.link import handshake, negotiation
from dreamer.protocol.link.handshake import Fingerprints, Party
from dreamer.protocol.link.messages import Revoked, decode, encode
from dreamer.protocol.registry.changes import Author, Publish, apply
from dreamer.protocol.registry.document import Document, parse
from dreamer.protocol.registry.membership import member_verifier
from dreamer.protocol.registry.statements import ModelEntry
from dreamer.protocol.registry.verify import verify
from dreamer.protocol.rooms.card import RoomCard
from dreamer.protocol.rooms.certificate import ALL_ROLES, invitation, node_certificate
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.protocol.rooms.membership import chain_to_json
from dreamer.protocol.rooms.revocations import Revocation, parse_revocation

NOW = 1_700_000_000.0
ROOM_SEED = b"\1" * 32
ROOM_KEY = SigningKey(ROOM_SEED)
ROOM = RoomId(ROOM_KEY.public)
ONE, TWO = "http://one", "http://two"
MODEL = ManifestId(b"m" * 32)


@dataclass(frozen=True)
class Person:
    """A key and the chain that makes it a member."""

    key: SigningKey
    chain: tuple

    @property
    def id(self) -> NodeId:
        return NodeId(self.key.public)

    def invite(self, number: int, *roles: str) -> Person:
        """Somebody whom this admin lets in."""
        return _invited(number, roles, self.key, self.chain)


def _invited(number, roles, issuer, upper=()):
    key, invited = SigningKey(bytes([number]) * 32), SigningKey(bytes([number + 100]) * 32)
    letter = invitation(ROOM, invited, roles, NOW, 1e9, 1, bytes([number]) * 16, issuer)
    return Person(key, (*upper, letter, node_certificate(ROOM, key.public, roles, NOW, invited)))


def guest(number: int, *roles: str) -> Person:
    """Somebody whom the room's key let in."""
    return _invited(number, roles or ("member", "publisher"), ROOM_KEY)


def creator() -> Person:
    key = SigningKey(b"\2" * 32)
    return Person(key, (node_certificate(ROOM, key.public, ALL_ROLES, NOW, ROOM_KEY),))


class PlayedTracker:
    """A ``TrackerSession`` that keeps what it is given in memory."""

    def __init__(self, url, tell) -> None:
        self.url = url
        self.tell = tell
        self.connected = True
        self.last_error = None
        self.document: bytes | None = None
        self.version = 0
        self.reads = 0
        self.deaf = False
        self.signals: list[NodeId] = []
        self.gate: asyncio.Event | None = None
        self.turn_servers = ()

    def present(self, capabilities) -> None: ...

    def announce(self, have, want) -> None: ...

    async def first_attempt(self, timeout_s) -> None: ...

    async def signal(self, peer, body) -> None:
        self.signals.append(peer)

    async def revoke(self, revocation) -> None:
        if not self.connected:
            raise RemoteError("it is away")
        if not self.deaf:
            self.tell(RevocationReceived(revocation))

    async def read_registry(self):
        self.reads += 1
        if self.gate is not None:
            await self.gate.wait()
        return None if self.document is None else (self.document, str(self.version))

    async def write_registry(self, data, etag):
        self.document = data
        self.version += 1
        return str(self.version)


class Transport:
    """Notes what it is told; the test plays the other ends."""

    def __init__(self) -> None:
        self.last = 0
        self.sent: list[object] = []

    def new_link(self) -> int:
        self.last += 1
        return self.last

    def send(self, command) -> None:
        self.sent.append(command)

    def told(self) -> dict[int, list[Revocation]]:
        """Return the revocations that were sent, by the number of the link."""
        found: dict[int, list[Revocation]] = {}
        for command in self.sent:
            if isinstance(command, SendControl):
                message = decode(command.data)
                if isinstance(message, Revoked):
                    one = parse_revocation(canonical.loads(message.statement))
                    found.setdefault(command.link, []).append(one)
        return found


class PlayedRoom(RoomSession):
    """A session whose trackers are played."""

    def _session(self, url):
        made = super()._session(url)
        return PlayedTracker(url, made._on_event)

    def link(self, person: Person, **says: object) -> bool:
        """Bring up a link to a member, as far as it is let; return whether it is up."""
        ours = self._parts.identity
        if ours.node_id < person.id:
            self.links.connect(person.id)
        else:
            self.links.signal_received(person.id, negotiation.signal("offer", 7, "sdp"))
        number = self._parts.transport.last
        near, far = b"n" * 32, b"f" * 32
        self.links.transport_event(LinkOpened(number, near, far, False))
        party = Party(
            ROOM,
            person.key,
            canonical.dumps({"chain": chain_to_json(person.chain)}),
            canonical.dumps({"name": "guest", **says}),
        )
        hello = handshake.hello(party, ours.node_id, Fingerprints(far, near))
        self.links.transport_event(ControlReceived(number, encode(hello)))
        return self.links.link(person.id) is not None


class Home:
    """What stays of a node when it restarts: its key, its membership and its state."""

    def __init__(self, root: Path) -> None:
        self.state = State(root / "state.db")
        self.library = Library()
        self.tasks = TaskSet()

    def session(
        self,
        person: Person | None = None,
        seed: bytes | None = ROOM_SEED,
        trackers: tuple[str, ...] = (ONE, TWO),
    ) -> PlayedRoom:
        person = person or creator()
        parts = RoomParts(
            identity=NodeIdentity(person.key),
            http=None,
            transport=Transport(),
            state=self.state,
            places=None,
            library=self.library,
            ice=IceSettings(),
            capabilities=dict,
            damaged=print,
            numbers=itertools.count(1),
            rng=Random(1),
            tasks=self.tasks,
        )
        card = RoomCard(ROOM, "team", trackers, None, None, b"s" * 32)
        return PlayedRoom(Membership(card, person.chain, seed), parts)


@pytest.fixture
async def home(tmp_path):
    made = Home(tmp_path)
    yield made
    await made.tasks.close()
    made.state.close()


@pytest.fixture
async def session(home):
    return home.session()


def revocation(node, number=1, by: Person | None = None):
    unsigned = Revocation(ROOM, number, node.id, int(NOW), by.chain if by else ())
    return unsigned.signed_by(by.key if by else ROOM_KEY)


def tell(session, event, tracker=0):
    session.sessions[tracker].tell(event)


# Memberships that end


async def test_removed_member_and_whom_it_invited_lose_their_links(session) -> None:
    admin = guest(10, "member", "admin")
    invited, other = admin.invite(11, "member"), guest(12)
    for person in (admin, invited, other):
        assert session.link(person)
    tell(session, RevocationReceived(revocation(admin)))
    assert [link.peer for link in session.links.links] == [other.id]
    for person in (admin, invited):
        assert not session.link(person)


async def test_revocation_without_effect_drops_nobody(home) -> None:
    admin = guest(10, "member", "admin")
    session = home.session(guest(13), seed=None)
    assert session.link(creator())
    tell(session, RevocationReceived(revocation(creator(), by=admin)))
    assert session.links.link(creator().id) is not None


async def test_revocation_outlives_a_restart(home) -> None:
    removed = guest(10)
    tell(home.session(), RevocationReceived(revocation(removed)))
    again = home.session()
    assert not again.link(removed)
    assert again.link(guest(11))


async def test_forged_revocation_is_neither_obeyed_nor_kept(home, session) -> None:
    victim = guest(10)
    forged = Revocation(ROOM, 1, victim.id, int(NOW), ()).signed_by(guest(11).key)
    tell(session, RevocationReceived(forged))
    assert session.link(victim)
    assert home.state.revocations(ROOM) == []


async def test_an_admin_can_not_revoke_without_end_but_the_room_can(home, monkeypatch) -> None:
    monkeypatch.setattr("dreamer.daemon.room.revocations.ROOM_MAX_REVOCATIONS", 3)
    assert ROOM_MAX_REVOCATIONS > 3
    session, admin = home.session(), guest(10, "admin")
    for number in range(1, 6):
        tell(session, RevocationReceived(revocation(guest(20 + number), number, by=admin)))
    assert len(home.state.revocations(ROOM)) == 3
    tell(session, RevocationReceived(revocation(guest(40), 6)))
    assert not session.link(guest(40))


async def test_what_a_removed_member_published_is_believed_no_more(session) -> None:
    author, tracker = guest(10), session.sessions[0]
    other = guest_registry(author)
    tracker.document, tracker.version = other, 1
    assert list((await session.read_registry()).models) == [MODEL]
    tell(session, RevocationReceived(revocation(author)))
    assert (await session.read_registry()).models == {}


def guest_registry(author: Person) -> bytes:
    """The document in which ``author`` published one model."""
    empty = verify(Document(ROOM), member_verifier(), NOW + 1)
    entry = ModelEntry(MODEL, "tiny", 1, 1, "files")
    pen = Author(author.key, chain_to_json(author.chain))
    return apply(empty, [Publish(entry)], pen, NOW + 1).encode()


# Removing somebody


async def test_admin_removes_a_member_by_the_start_of_its_id(home, session) -> None:
    victim = guest(10)
    assert session.link(victim)
    assert await session.remove_member(victim.id.hex()[:8]) == victim.id
    assert session.links.links == []
    assert len(home.state.revocations(ROOM)) == 1
    second = guest(11)
    assert await session.remove_member(second.id.hex()) == second.id


async def test_invited_admin_removes_a_member_but_not_the_creator(home) -> None:
    session = home.session(guest(10, "admin"), seed=None)
    victim = guest(11)
    assert session.link(victim)
    assert session.link(creator())
    await session.remove_member(victim.id.hex())
    with pytest.raises(ForbiddenError, match="only the node that made the room"):
        await session.remove_member(creator().id.hex())
    assert [link.peer for link in session.links.links] == [creator().id]


async def test_plain_member_removes_nobody(home) -> None:
    session = home.session(guest(10), seed=None)
    with pytest.raises(ForbiddenError, match="only admins"):
        await session.remove_member(guest(11).id.hex())


async def test_removal_needs_a_tracker_that_takes_note(session, monkeypatch) -> None:
    monkeypatch.setattr("dreamer.daemon.room.removal.REMOVAL_TIMEOUT_S", 0.01)
    victim = guest(10)
    assert session.link(victim)
    for tracker in session.sessions:
        tracker.deaf = True
    with pytest.raises(RemoteError, match="remove the node again"):
        await session.remove_member(victim.id.hex())
    assert session.links.link(victim.id) is not None
    session.sessions[0].connected, session.sessions[1].deaf = False, False
    await session.remove_member(victim.id.hex())
    assert session.links.links == []


async def test_removal_with_all_trackers_away_counts_here_at_once(session) -> None:
    victim = guest(10)
    assert session.link(victim)
    for tracker in session.sessions:
        tracker.connected = False
    assert await session.remove_member(victim.id.hex()) == victim.id
    assert session.links.links == []


async def test_without_trackers_a_removal_is_told_over_links(home) -> None:
    session = home.session(trackers=())
    victim, other = guest(10), guest(11)
    for person in (victim, other):
        assert session.link(person, gossip=1)
    kept = session.links.link(other.id)
    assert await session.remove_member(victim.id.hex()) == victim.id
    assert session.links.links == [kept]
    (told,) = session._parts.transport.told()[kept.number]
    assert told.node_id == victim.id
    # Who links later hears of it too; who was removed is not linked again.
    late = guest(12)
    assert session.link(late, gossip=1)
    assert session._parts.transport.told()[session.links.link(late.id).number] == [told]
    assert not session.link(victim, gossip=1)


async def test_without_trackers_a_removal_that_a_member_tells_counts(home) -> None:
    session = home.session(guest(13), seed=None, trackers=())
    victim, teller = guest(10), guest(11)
    for person in (victim, teller):
        assert session.link(person, gossip=1)
    link = session.links.link(teller.id)
    for one in (revocation(teller, by=victim), revocation(victim)):
        statement = canonical.dumps(one.to_json())
        session.links.transport_event(ControlReceived(link.number, encode(Revoked(statement))))
    # What proves nothing removes nobody, and costs its teller nothing.
    assert session.links.links == [link]


async def test_without_trackers_an_admin_who_was_removed_removes_nobody(home) -> None:
    admin = guest(10, "admin")
    session = home.session(admin, seed=None, trackers=())
    session._removals.heard(revocation(admin))
    with pytest.raises(ForbiddenError, match="removed itself"):
        await session.remove_member(guest(11).id.hex())


@pytest.mark.parametrize(
    ("ref", "kind"),
    [
        ("abc", InputError),
        ("guest-of-honour", InputError),
        ("ABCDEF0123456789", InputError),
        ("0" * 65, InputError),
        ("0123456789", NoMatchError),
        ("77777777", AmbiguousError),
        (creator().id.hex(), InputError),
    ],
)
async def test_whoever_is_to_be_removed_must_be_named_clearly(session, ref, kind) -> None:
    for last in (b"a", b"b"):
        tell(session, MemberPresent(NodeId(b"\x77" * 31 + last), {"name": "guest-of-honour"}))
    with pytest.raises(InputError) as caught:
        await session.remove_member(ref)
    assert type(caught.value) is kind


# Who is present


async def test_presence_is_by_tracker(session) -> None:
    ann = guest(10).id
    for number in (0, 1):
        tell(session, MemberPresent(ann, {"name": "ann"}), number)
    tell(session, MemberGone(ann), 0)
    assert session.name_of(ann) == "ann"
    tell(session, TrackerDown("it broke"), 1)
    assert session.present == {}


async def test_member_that_no_tracker_reaches_fails_the_attempt_after_the_last_of_them(
    home, session
) -> None:
    ann = NodeId(b"\xff" * 32)
    tell(session, MemberPresent(ann, {}), 1)
    session.links.connect(NodeId(b"\xff" * 32))
    session._signals.send(ann, {"kind": "knock"})
    for number, counts in ((1, [0, 1]), (0, [1, 1])):
        await settled(home)
        assert [len(one.signals) for one in session.sessions] == counts
        assert session.links.connecting(ann)
        tell(session, Unreachable(ann), number)
    await settled(home)
    assert not session.links.connecting(ann)


async def settled(home) -> None:
    while home.tasks._tasks:
        await asyncio.gather(*home.tasks._tasks)


# The registry


async def test_registry_that_nobody_can_read_is_shown_as_last_seen(home, session) -> None:
    tracker = session.sessions[0]
    await session.registry.change(Publish(ModelEntry(MODEL, "tiny", 1, 1, "files")))
    good = tracker.document
    for tracker.document, tracker.version in ((b"{}", 2), (None, 3), (b"[", 4)):
        assert list((await session.read_registry()).models) == [MODEL]
        assert (await session.resolve(MODEL.hex())).name == "tiny"
    # Also after a restart: what could not be read has not taken the place of what could.
    again = home.session()
    again.sessions[0].document, again.sessions[0].version = b"{}", 2
    assert list((await again.read_registry()).models) == [MODEL]
    await again.registry.change(Publish(ModelEntry(ManifestId(b"n" * 32), "other", 1, 1, "files")))
    assert len(parse(again.sessions[0].document, ROOM).models) == 2
    assert good is not None


async def test_registry_that_can_not_be_read_and_never_was_is_an_error(session) -> None:
    session.sessions[0].document = b"{}"
    with pytest.raises(InputError):
        await session.read_registry()


async def test_many_notices_of_a_change_lead_to_few_readings(home, session) -> None:
    tracker = session.sessions[0]
    tracker.gate = asyncio.Event()
    for _ in range(50):
        tell(session, RegistryChanged("e"))
    async with asyncio.timeout(10.0):
        while not tracker.reads:
            await asyncio.sleep(0)
        for _ in range(50):
            tell(session, TrackerUp())
        tracker.gate.set()
        await asyncio.wait([session._view._following])
    assert tracker.reads == 2


# Leaving


async def test_nothing_listens_for_a_room_that_was_left(home) -> None:
    ended = []
    for _ in range(3):
        session = home.session()
        session.at_close.append(lambda: ended.append(1))
        session.close()
    assert home.library._listeners == []
    assert ended == [1, 1, 1]
