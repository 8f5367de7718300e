"""npm bittorrent-tracker's client at our tracker: counts, offers, answers, scrapes, a restart."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

HASH, OTHER, THIRD = "5a" * 20, "a5" * 20, "00ff" * 10
WIRE_HASH = "Z" * 20
ALICE, BOB = (f"2d5757303030302d{number:024x}" for number in (1, 2))

# Where only counts matter no offers need be made.
ALONE = {"numwant": 0}


@pytest.fixture
def client(driver, tracker):
    """``client(ALICE, HASH)`` is a client that is ready to be told what to announce."""

    def start(peer_id, *hashes):
        child = driver("tracker_client.mjs", "bittorrent-tracker", tracker.url, peer_id, *hashes)
        child.until("ready")
        return child

    return start


def announce(client, how, infohash=HASH, **options):
    client.tell("announce", how=how, infoHash=infohash, options=options)


def counts(complete, incomplete, infohash=HASH):
    return {"infoHash": infohash, "complete": complete, "incomplete": incomplete}


def arrive(client, complete, incomplete, infohash=HASH):
    announce(client, "start", infohash, left=5, **ALONE)
    client.until("update", **counts(complete, incomplete, infohash))


def test_counts_follow_start_complete_and_stop(client):
    alice, bob = client(ALICE, HASH), client(BOB, HASH)
    arrive(alice, 0, 1)
    announce(bob, "start", left=0, **ALONE)
    bob.until("update", **counts(1, 1))
    announce(alice, "complete", left=0)
    alice.until("update", **counts(2, 0))
    announce(bob, "stop", left=0)
    bob.until("update", **counts(1, 0))
    announce(alice, "update", left=0, **ALONE)
    alice.until("update", **counts(1, 0))


def test_two_clients_connect_and_exchange_bytes(client):
    alice, bob = client(ALICE, HASH), client(BOB, HASH)
    arrive(alice, 0, 1)
    announce(bob, "start", left=5)
    # Bob came second, so the offers are his.
    bob.until("connected", peer=ALICE, offered=True)
    alice.until("connected", peer=BOB, offered=False)
    bob.until("data", text=f"{ALICE} greets {BOB}")
    alice.until("data", text=f"{BOB} greets {ALICE}")


def test_scrape_of_one_and_of_several(client):
    alice = client(ALICE, HASH, OTHER)
    arrive(alice, 0, 1)
    arrive(alice, 0, 1, OTHER)
    announce(alice, "complete", OTHER, left=0)
    alice.until("update", **counts(1, 0, OTHER))
    alice.tell("scrape", infoHash=HASH)
    alice.until("scrape", **counts(0, 1), downloaded=0)
    alice.tell("scrape", infoHash=HASH, of=[OTHER, THIRD])
    alice.until("scrape", **counts(1, 0, OTHER), downloaded=1)
    alice.until("scrape", **counts(0, 0, THIRD), downloaded=0)


def test_many_swarms_share_one_socket(client, tracker):
    hashes = [f"{number:040x}" for number in range(1, 21)]
    alice, bob = client(ALICE, *hashes), client(BOB, hashes[7])
    for each in hashes:
        arrive(alice, 0, 1, each)
    announce(bob, "start", hashes[7], left=5)
    alice.until("connected", infoHash=hashes[7], peer=BOB)
    announce(alice, "stop", hashes[7], left=5)
    alice.until("update", **counts(0, 1, hashes[7]))
    counted = tracker.stats()
    assert (counted["sockets"], counted["leechers"]) == (2, 20)


def test_length_unknown_counts_as_a_leecher(client):
    alice = client(ALICE, HASH)
    announce(alice, "start", left=None, **ALONE)
    alice.until("update", **counts(0, 1))


def test_bad_messages_cost_neither_the_sender_nor_others_their_socket(client, tracker):
    alice, bob = client(ALICE, HASH), client(BOB, HASH)
    arrive(alice, 0, 1)
    arrive(bob, 0, 2)
    about = {"action": "announce", "peer_id": ALICE[:20]}
    alice.tell("send", message={**about, "info_hash": HASH})
    alice.tell("send", message={**about, "info_hash": WIRE_HASH, "event": "gone"})
    alice.until("warning", infoHash=HASH, message="unknown event")
    announce(alice, "complete", left=0)
    alice.until("update", **counts(1, 1))
    announce(bob, "update", left=5, **ALONE)
    bob.until("update", **counts(1, 1))
    counted = tracker.stats()
    assert (counted["refused"], counted["sockets"]) == (2, 2)


def test_killed_client_is_no_longer_counted(client):
    alice, bob = client(ALICE, HASH), client(BOB, HASH)
    arrive(alice, 0, 1)
    arrive(bob, 0, 2)
    alice.end()
    announce(bob, "update", left=5, **ALONE)
    bob.until("update", **counts(0, 1))


def test_client_comes_back_by_itself_after_a_restart(client, tracker):
    alice = client(ALICE, HASH)
    arrive(alice, 0, 1)
    alice.tell("hurry")
    alice.until("hurrying")
    tracker.restart()
    alice.until("update", **counts(0, 1))
    arrive(client(BOB, HASH), 0, 2)
