from __future__ import annotations

import json

import pytest

from dreamer.protocol.ids import InfoHash
from dreamer.tracker import wire
from dreamer.tracker.wire import Announce, AnnounceError, Answer, Counts, Event, Scrape

HASH, PEER = "h\xff" * 10, "-WW0201-\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b"


def said(**fields) -> str:
    return json.dumps({"action": "announce", "info_hash": HASH, "peer_id": PEER, **fields})


def test_announce_of_webtorrent_is_read():
    sent = said(
        numwant=5, uploaded=0, downloaded=0, left=None, event="started", corrupt=0, key="x",
        offers=[{"offer": {"type": "offer", "sdp": "v=0"}, "offer_id": "o" * 20}],
    )  # fmt: skip
    for message in (sent, sent.encode()):
        parsed = wire.parse(message)
        assert isinstance(parsed, Announce)
        assert parsed.info_hash == HASH.encode("latin-1")
        assert parsed.peer_id == PEER.encode("latin-1")
        assert parsed.event is Event.STARTED
        assert parsed.left is None
        assert parsed.offers[0].offer_id == "o" * 20


@pytest.mark.parametrize(
    ("left", "read"),
    [(None, None), (0, 0), (5, 5), (5.0, 5), (-1, None), ("7", None), (True, None), (1e400, None)],
)
def test_left_is_read_permissively(left, read):
    parsed = wire.parse(said(left=left))
    assert isinstance(parsed, Announce)
    assert parsed.left == read


def test_missing_fields_take_their_defaults():
    parsed = wire.parse(said())
    assert isinstance(parsed, Announce)
    assert (parsed.event, parsed.left, parsed.offers) == (Event.NONE, None, ())


def test_offers_beyond_ten_or_numwant_are_not_taken():
    offers = [{"offer": {"sdp": ""}, "offer_id": str(n)} for n in range(50)]
    assert len(wire.parse(said(offers=offers)).offers) == 10
    assert len(wire.parse(said(offers=offers, numwant=3)).offers) == 3
    assert len(wire.parse(said(offers=offers, numwant=0)).offers) == 0


def test_answer_is_read():
    parsed = wire.parse(said(answer={"type": "answer", "sdp": ""}, to_peer_id=PEER, offer_id="o"))
    assert isinstance(parsed, Answer)
    assert parsed.to_peer_id == PEER.encode("latin-1")


@pytest.mark.parametrize(
    ("asked", "count"), [(HASH, 1), ([HASH, "x" * 20], 2), ([], 0), (None, None)]
)
def test_scrape_of_one_many_and_all_is_read(asked, count):
    parsed = wire.parse(json.dumps({"action": "scrape", "info_hash": asked}))
    assert isinstance(parsed, Scrape)
    assert (None if parsed.info_hashes is None else len(parsed.info_hashes)) == count


@pytest.mark.parametrize(
    "message",
    [
        "", "{", "[]", "1", "null", b"\xff\xfe", "[" * 60_000, "{}", '{"action": "dance"}',
        said(info_hash="ab" * 20), said(info_hash=None), said(info_hash="\u20ac" * 20),
        said(peer_id=5), said(peer_id="short"), said(event="explode"), said(event=[1]),
        said(answer={}, to_peer_id="x", offer_id="o"), said(answer={}, to_peer_id=PEER),
        said(offers=[{"offer": {"sdp": ""}, "offer_id": "o" * 65}]),
        '{"action": "scrape", "info_hash": "short"}', '{"action": "scrape", "info_hash": [1]}',
        json.dumps({"action": "scrape", "info_hash": [HASH] * 1001}),
    ],
)  # fmt: skip
def test_what_can_not_be_used_gets_a_failure_with_an_action(message):
    with pytest.raises(AnnounceError) as caught:
        wire.parse(message)
    told = json.loads(wire.failure(caught.value))
    assert told["action"] in ("announce", "scrape")
    assert told["failure reason"]


def test_reply_and_scrape_have_the_fields_that_clients_read():
    name = InfoHash(HASH.encode("latin-1"))
    assert json.loads(wire.reply(name, Counts(1, 2, 3))) == {
        "action": "announce", "info_hash": HASH, "interval": 120, "complete": 1, "incomplete": 2,
    }  # fmt: skip
    assert json.loads(wire.scrape_reply({name: Counts(1, 2, 3)})) == {
        "action": "scrape",
        "files": {HASH: {"complete": 1, "incomplete": 2, "downloaded": 3}},
        "flags": {"min_request_interval": 120},
    }
