from __future__ import annotations

import stat

import pytest

from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.room.book import RoomBook
from dreamer.protocol.errors import ForbiddenError, InputError, LocalError, NoMatchError
from dreamer.protocol.rooms.membership import verify_chain

NOW = 1_800_000_000.0
DAY_S = 86_400.0
TRACKERS = ["ws://127.0.0.1:8787/announce"]


class Home:
    """A node's home, and the book that reads it."""

    def __init__(self, path) -> None:
        self.path = path
        self.identity = NodeIdentity.load_or_create(path)
        self.book = self.reopened()

    def reopened(self) -> RoomBook:
        return RoomBook(self.path, self.identity)

    def join(self, token: str) -> None:
        self.book.add(self.book.accept(token, NOW))


@pytest.fixture
def homes(tmp_path) -> list[Home]:
    return [Home(tmp_path / name) for name in "abcd"]


def create(home: Home, name: str = "team", origin=None, endpoint_url=None):
    return home.book.create(name, TRACKERS, origin, endpoint_url, NOW)


def invite(home: Home, *roles: str, uses: int = 1) -> str:
    return home.book.invite("team", roles or ("member",), DAY_S, uses, NOW)


def file_of(home: Home, membership):
    return home.path / "identity" / "rooms" / f"{membership.card.room_id.hex()}.json"


def test_created_room_is_there_after_a_restart(homes):
    made = create(homes[0], origin="s3://bucket/p", endpoint_url="http://127.0.0.1:9000")
    assert made.card.trackers == ("http://127.0.0.1:8787",)
    assert set(made.roles) == {"member", "publisher", "worker", "admin"}
    assert homes[0].reopened().get("team") == made
    assert stat.S_IMODE(file_of(homes[0], made).stat().st_mode) == 0o600


def test_token_makes_another_node_a_member(homes):
    room_id = create(homes[0]).card.room_id
    joined = homes[1].book.accept(invite(homes[0], "member", "publisher"), NOW)
    member = verify_chain(room_id, joined.chain, NOW)
    assert member.node_id == homes[1].identity.node_id
    assert member.roles == ("member", "publisher")
    assert joined.room_seed is None


def test_accepted_room_is_kept_only_once_added(homes):
    create(homes[0])
    joined = homes[1].book.accept(invite(homes[0]), NOW)
    assert homes[1].book.list() == homes[1].reopened().list() == []
    homes[1].book.add(joined)
    assert homes[1].reopened().list() == [joined]


def test_invited_admin_invites_but_whom_it_made_admin_can_not(homes):
    create(homes[0])
    homes[1].join(invite(homes[0], "admin"))
    homes[2].join(invite(homes[1], "admin"))
    with pytest.raises(ForbiddenError, match="ask an admin"):
        invite(homes[2])


def test_member_who_is_no_admin_can_not_invite(homes):
    create(homes[0])
    homes[1].join(invite(homes[0], "member", "publisher", "worker"))
    with pytest.raises(ForbiddenError, match="only admins may invite"):
        invite(homes[1])


def test_expired_token_is_refused(homes):
    create(homes[0])
    token = invite(homes[0])
    with pytest.raises(ForbiddenError, match="expired: ask for a new one"):
        homes[1].book.accept(token, NOW + DAY_S + 1)


def test_damaged_token_is_refused(homes):
    create(homes[0])
    with pytest.raises(InputError, match="copy it again"):
        homes[1].book.accept(invite(homes[0])[:-5], NOW)


def test_creator_can_not_demote_itself_with_a_token(homes):
    create(homes[0])
    with pytest.raises(InputError, match="member already"):
        homes[0].book.accept(invite(homes[0]), NOW)


def test_name_taken_by_another_room_is_refused_everywhere(homes):
    create(homes[0])
    create(homes[1])
    token = invite(homes[0])
    with pytest.raises(InputError, match="choose another name, or leave it first"):
        create(homes[0])
    with pytest.raises(InputError, match="leave it first"):
        homes[1].book.accept(token, NOW)
    joined = homes[2].book.accept(token, NOW)
    with pytest.raises(InputError, match="leave it first"):
        homes[1].book.add(joined)


def test_newer_token_of_the_same_room_replaces_the_membership(homes):
    create(homes[0])
    homes[1].join(invite(homes[0], "member"))
    homes[1].join(invite(homes[0], "member", "worker"))
    assert [m.roles for m in homes[1].reopened().list()] == [("member", "worker")]


def test_room_is_found_by_name_and_by_id(homes):
    made = create(homes[0])
    book = homes[0].book
    assert book.get("team") is book.get(made.card.room_id.hex()) is made


def test_unknown_room_lists_the_rooms_there_are(homes):
    with pytest.raises(NoMatchError, match="make one or join one"):
        homes[0].book.get("team")
    create(homes[0], "beta")
    create(homes[0], "alpha")
    with pytest.raises(NoMatchError, match="the rooms are: alpha, beta"):
        homes[0].book.get("team")


def test_removed_room_is_gone(homes):
    made = create(homes[0])
    assert homes[0].book.remove("team") is made
    assert homes[0].reopened().list() == []
    with pytest.raises(NoMatchError):
        homes[0].book.remove("team")


def test_secrets_are_not_shown(homes):
    made = create(homes[0])
    assert made.room_seed is not None
    assert repr(made.room_seed) not in repr(made)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"card":1,"chain":[],"room_seed":null}'])
def test_damaged_membership_is_named(homes, content):
    file = file_of(homes[0], create(homes[0]))
    file.write_bytes(content)
    with pytest.raises(LocalError, match=file.name):
        homes[0].reopened()


def test_membership_under_another_rooms_name_is_refused(homes):
    file = file_of(homes[0], create(homes[0]))
    file.rename(file.with_name("ab" * 32 + ".json"))
    with pytest.raises(LocalError, match="another room"):
        homes[0].reopened()


def test_membership_open_to_others_is_refused(homes):
    file_of(homes[0], create(homes[0])).chmod(0o644)
    with pytest.raises(LocalError, match="chmod 600"):
        homes[0].reopened()


@pytest.mark.parametrize(
    ("name", "trackers", "origin"),
    [("", TRACKERS, None), ("a/b", TRACKERS, None), ("x", ["udp://x"], None), ("x", [], "s4://x")],
)
def test_room_with_impossible_facts_is_not_made(homes, name, trackers, origin):
    with pytest.raises(InputError):
        homes[0].book.create(name, trackers, origin, None, NOW)
    assert homes[0].reopened().list() == []
