"""A plain npm ws socket at our tracker: what clients other than the known ones may send."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

HASHES = [f"{letter}" * 20 for letter in "abcdefgh"]
ALICE, BOB = "-XX0001-aaaaaaaaaaaa", "-XX0001-bbbbbbbbbbbb"
OFFER = {"offer": {"type": "offer", "sdp": "v=0\r\n"}, "offer_id": "\x00\xff" * 10}


@pytest.fixture
def socket(driver, tracker):
    def connect():
        child = driver("socket_client.mjs", "ws", tracker.url)
        child.until("open")
        return child

    return connect


def announce(info_hash=HASHES[0], peer_id=ALICE, **more):
    said = {"action": "announce", "info_hash": info_hash, "peer_id": peer_id}
    return {**said, "numwant": 5, "uploaded": 0, "downloaded": 0, "left": 5, "offers": [], **more}


def hears(socket):
    return socket.until("heard")["message"]


def test_binary_frames_are_read_like_text(socket):
    alice = socket()
    alice.tell("binary", message=announce(event="started"))
    reply = alice.until("heard")
    assert (reply["message"]["incomplete"], reply["binary"]) == (1, False)


def test_null_left_missing_event_and_extra_fields_are_fine(socket):
    alice = socket()
    extra = {"corrupt": 0, "key": "a1b2", "trackerid": None, "new": {"deep": [1]}}
    alice.tell("text", message=announce(left=None, **extra))
    assert hears(alice)["incomplete"] == 1


def test_many_swarms_on_one_socket_are_answered_each(socket):
    alice = socket()
    for each in HASHES:
        alice.tell("text", message=announce(each, event="started"))
    assert [hears(alice)["info_hash"] for _ in HASHES] == HASHES


def test_offer_and_answer_keep_their_ids_byte_for_byte(socket):
    alice, bob = socket(), socket()
    alice.tell("text", message=announce(event="started"))
    hears(alice)
    bob.tell("binary", message=announce(peer_id=BOB, event="started", offers=[OFFER]))
    hears(bob)
    about = {"action": "announce", "info_hash": HASHES[0], "offer_id": OFFER["offer_id"]}
    assert hears(alice) == {**about, "peer_id": BOB, "offer": OFFER["offer"]}
    answer = {"type": "answer", "sdp": "v=0\r\n"}
    alice.tell("text", message={**about, "peer_id": ALICE, "to_peer_id": BOB, "answer": answer})
    assert hears(bob) == {**about, "peer_id": ALICE, "answer": answer}


def test_scrape_without_a_hash_tells_of_every_swarm(socket):
    alice = socket()
    for each in HASHES[:2]:
        alice.tell("text", message=announce(each, left=0, event="started"))
        hears(alice)
    alice.tell("text", message={"action": "scrape"})
    seeded = {"complete": 1, "incomplete": 0, "downloaded": 0}
    assert hears(alice)["files"] == dict.fromkeys(HASHES[:2], seeded)


def test_errors_carry_an_action_and_leave_the_socket_open(socket):
    alice = socket()
    alice.tell("text", message=announce("ab" * 20))
    refused = hears(alice)
    assert refused["action"] == "announce"
    assert "20 characters" in refused["failure reason"]
    alice.tell("text", message=announce())
    assert hears(alice)["incomplete"] == 1
