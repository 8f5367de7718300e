from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from dreamer.protocol.ids import InfoHash
from dreamer.tracker.public import wire
from dreamer.tracker.public.wire import Announce, AnnounceError, Answer, Counts, Event, Scrape

HASH, PEER = "h\xff" * 10, "-WW0201-\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b"


def said(**fields) -> bytes:
    return json.dumps({"action": "announce", "info_hash": HASH, "peer_id": PEER, **fields}).encode()


def test_announce_of_webtorrent_is_read():
    sent = said(
        numwant=5, uploaded=0, downloaded=0, left=None, event="started", corrupt=0, key="x",
        offers=[{"offer": {"type": "offer", "sdp": "v=0"}, "offer_id": "o" * 20}],
    )  # fmt: skip
    for message in (sent, bytearray(sent)):
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


def plain(parsed) -> object:
    """A parsed message with its descriptions parsed, too."""
    if isinstance(parsed, Answer):
        return (*astuple(parsed)[:-1], json.loads(bytes(parsed.answer)))
    if isinstance(parsed, Announce):
        offers = [(each.offer_id, json.loads(bytes(each.offer))) for each in parsed.offers]
        return (*astuple(parsed)[:-1], offers)
    return parsed


def outcome(parse, message: bytes) -> object:
    try:
        return plain(parse(message))
    except AnnounceError as error:
        return str(error), error.action, error.info_hash


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
_ids = st.sampled_from(["o", "\u00e9" * 20, "x" * 65, ""]) | _scalars
_descriptions = st.fixed_dictionaries({"sdp": st.text(max_size=5)}, optional={"x": _scalars})
_some_offers = st.lists(
    st.fixed_dictionaries({"offer": _descriptions, "offer_id": _ids}) | _scalars, max_size=12
)
_names = st.sampled_from([HASH, PEER, "x" * 20, "short", "\u20ac" * 20]) | _scalars
_fields = {
    "event": st.sampled_from(["started", "stopped", "", "explode"]) | _scalars,
    "left": _scalars,
    "numwant": st.integers(-1, 12) | _scalars,
    "offers": _some_offers | _scalars,
    "answer": _descriptions | _scalars,
    "to_peer_id": _names,
    "offer_id": _ids,
    "more": _scalars,
}


@given(
    st.fixed_dictionaries(
        {"action": st.sampled_from(["announce"] * 9 + ["scrape", 5])},
        optional={"info_hash": _names, "peer_id": _names, **_fields},
    ),
    st.booleans(),
)
def test_both_ways_of_reading_a_message_agree(said, escaped):
    try:
        message = json.dumps(said, ensure_ascii=escaped).encode()
    except UnicodeEncodeError:
        message = json.dumps(said).encode()
    assert outcome(wire.parse, message) == outcome(wire._parse_unusual, message)


def test_stock_clients_are_read_the_quick_way():
    offers = [{"offer": {"type": "offer", "sdp": "v=0"}, "offer_id": "o" * 20}]
    for message in (
        said(numwant=5, uploaded=0, downloaded=0, left=None, event="started", offers=offers),
        said(left=5, numwant=0, corrupt=0, key="x", event=None, trackerid="t"),
        said(to_peer_id=PEER, offer_id="o" * 20, answer={"type": "answer", "sdp": "v=0"}),
    ):
        assert wire._parse_usual(message) is not None


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", "1e400"])
def test_number_that_json_does_not_have_is_passed_on_as_null(number):
    offer = '[{"offer":{"sdp":"","x":NUMBER},"offer_id":"o"}]'.replace("NUMBER", number)
    message = said(left=0).replace(b'"left": 0', f'"left": {number}, "offers": {offer}'.encode())
    parsed = wire.parse(message)
    assert isinstance(parsed, Announce)
    assert parsed.left is None
    json.loads(bytes(parsed.offers[0].offer), parse_constant=pytest.fail)


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
    parsed = wire.parse(json.dumps({"action": "scrape", "info_hash": asked}).encode())
    assert isinstance(parsed, Scrape)
    assert (None if parsed.info_hashes is None else len(parsed.info_hashes)) == count


@pytest.mark.parametrize(
    "message",
    [
        b"", b"{", b"[]", b"1", b"null", b"\xff\xfe", b"[" * 60_000, b"{}", b'{"action": "dance"}',
        said(info_hash="ab" * 20), said(info_hash=None), said(info_hash="\u20ac" * 20),
        said(peer_id=5), said(peer_id="short"), said(event="explode"), said(event=[1]),
        said(answer={}, to_peer_id="x", offer_id="o"), said(answer={}, to_peer_id=PEER),
        said(offers=[{"offer": {"sdp": ""}, "offer_id": "o" * 65}]),
        b'{"action": "scrape", "info_hash": "short"}', b'{"action": "scrape", "info_hash": [1]}',
        json.dumps({"action": "scrape", "info_hash": [HASH] * 1001}).encode(),
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
