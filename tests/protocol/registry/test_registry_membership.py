from dataclasses import replace

import pytest

from dreamer.protocol.ids import RoomId
from dreamer.protocol.registry.changes import Author, Publish, apply
from dreamer.protocol.registry.document import Document, parse
from dreamer.protocol.registry.membership import member_verifier
from dreamer.protocol.registry.reports import Fault
from dreamer.protocol.registry.verify import verify
from dreamer.protocol.rooms.certificate import invitation, node_certificate
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.protocol.rooms.membership import chain_to_json
from dreamer.protocol.rooms.revocations import Revocation, RevocationSet

NOW = 1_800_000_000.0
ROOM_KEY = SigningKey(b"r" * 32)
ROOM = RoomId(ROOM_KEY.public)
NODE = SigningKey(b"n" * 32)


def invited(*roles):
    door = SigningKey(b"d" * 32)
    ticket = invitation(ROOM, door, roles, NOW, 3600, 1, b"i" * 16, ROOM_KEY)
    chain = (ticket, node_certificate(ROOM, NODE.public, roles, NOW, door))
    return Author(NODE, chain_to_json(chain))


def published(room, author, now=NOW):
    # As by a program that does not ask whether its author may.
    empty = replace(verify(Document(ROOM), member_verifier(), now), verify_member=None)
    document = apply(empty, [Publish(room.entry(1))], author, now)
    return parse(document.encode(), ROOM)


def test_invited_publisher_is_believed_long_after_the_invitation_ended(room):
    document = published(room, invited("member", "publisher"), NOW + 30 * 86400)
    after = verify(document, member_verifier(), NOW + 60 * 86400)
    assert len(after.registry.models) == 1
    assert after.reports == ()


def test_invited_plain_member_may_not_publish(room):
    after = verify(published(room, invited("member")), member_verifier(), NOW)
    assert after.registry.models == {}
    assert after.reports[0].fault is Fault.NO_RIGHT


@pytest.mark.parametrize("chain", [[], [{}], [1], [{"kind": "node"}], [[[]]] * 100])
def test_author_with_a_broken_chain_is_no_member(room, chain):
    after = verify(published(room, Author(NODE, chain)), member_verifier(), NOW)
    assert after.registry.models == {}
    assert after.reports[0].fault is Fault.NOT_A_MEMBER


def test_what_a_revoked_node_said_counts_no_longer(room):
    document = published(room, invited("publisher"))
    revoked = RevocationSet(ROOM)
    bare = Revocation(ROOM, 1, NODE.public, int(NOW) + 5, ())
    revoked.add(bare.signed_by(ROOM_KEY), NOW + 5)
    after = verify(document, member_verifier(revoked), NOW + 10)
    assert after.registry.models == {}
    assert "revoked" in str(after.reports[0])
