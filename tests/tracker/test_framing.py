from __future__ import annotations

import importlib.util
import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.tracker.public import framing
from dreamer.tracker.public.framing import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

MAX_BYTES = 64 * 1024
MASK = b"\x01\xfe\x7f\x80"


def client_frame(kind: int, payload: bytes = b"", fin: bool = True, mask: bytes = MASK) -> bytes:
    """A frame as RFC 6455, section 5.2 draws it; masked byte by byte."""
    size = len(payload)
    if size < 126:
        head = bytes([0x80 * fin | kind, 0x80 | size])
    elif size < 1 << 16:
        head = bytes([0x80 * fin | kind, 0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x80 * fin | kind, 0x80 | 127]) + size.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def read(*pieces: bytes) -> list[tuple[int, bytes]]:
    """What comes out, but for the pieces of messages."""
    reader, heard = framing.FrameReader(MAX_BYTES), []
    for piece in pieces:
        reader.feed(piece)
        while (message := reader.next()) is not None:
            if message[0] != CONTINUATION:
                heard.append((message[0], bytes(message[1])))
    return heard


def status_of(*pieces: bytes) -> int:
    with pytest.raises(framing.FramingError) as caught:
        read(*pieces)
    return caught.value.status


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536])
def test_frames_of_every_size_are_read(size):
    payload = b"\xc3\xa9x"[:3] * (size // 3) + b"y" * (size % 3)
    assert read(client_frame(TEXT, payload)) == [(TEXT, payload)]
    assert read(client_frame(BINARY, b"\xff" * size)) == [(BINARY, b"\xff" * size)]


def test_control_frames_come_through_between_the_pieces_of_a_message():
    sent = [
        client_frame(TEXT, b"\xe2", fin=False),
        client_frame(PING, b"there?"),
        client_frame(CONTINUATION, b"\x82", fin=False),
        client_frame(PONG),
        client_frame(CONTINUATION, b"\xac"),
        client_frame(TEXT, b"next"),
    ]
    assert read(b"".join(sent)) == [
        (PING, b"there?"), (PONG, b""), (TEXT, "€".encode()), (TEXT, b"next"),
    ]  # fmt: skip


def test_message_is_handed_out_one_at_a_time():
    reader = framing.FrameReader(MAX_BYTES)
    reader.feed(client_frame(TEXT, b"1") + client_frame(TEXT, b"2") + client_frame(TEXT, b"3")[:5])
    assert reader.next() == (TEXT, b"1")
    reader.feed(client_frame(TEXT, b"3")[5:])
    assert [reader.next(), reader.next(), reader.next()] == [(TEXT, b"2"), (TEXT, b"3"), None]
    assert not reader.rest


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x81\x01x", framing.PROTOCOL_ERROR),  # no mask
        (b"\xc1\x80" + MASK, framing.PROTOCOL_ERROR),  # compressed
        (client_frame(0x3), framing.PROTOCOL_ERROR),
        (client_frame(0xB), framing.PROTOCOL_ERROR),
        (client_frame(PING, fin=False), framing.PROTOCOL_ERROR),
        (client_frame(PING, b"x" * 126), framing.PROTOCOL_ERROR),
        (client_frame(CONTINUATION, b"x"), framing.PROTOCOL_ERROR),
        (client_frame(TEXT, fin=False) + client_frame(TEXT), framing.PROTOCOL_ERROR),
        (client_frame(TEXT, b"\xff"), framing.INVALID_TEXT),
        (
            client_frame(TEXT, b"\xe2", fin=False) + client_frame(CONTINUATION),
            framing.INVALID_TEXT,
        ),
        (client_frame(TEXT, b"x" * (MAX_BYTES + 1)), framing.TOO_BIG),
        (b"\x81\xff" + (1 << 62).to_bytes(8, "big"), framing.TOO_BIG),  # told by its head alone
        (
            client_frame(BINARY, b"x" * MAX_BYTES, fin=False) + client_frame(CONTINUATION, b"x"),
            framing.TOO_BIG,
        ),
    ],
)
def test_what_breaks_the_rules_is_told_by_its_status(sent, status):
    assert status_of(sent) == status
    # Byte by byte it comes to the same.
    assert status_of(*(sent[at : at + 1] for at in range(len(sent)))) == status


def test_what_came_before_a_mistake_is_still_handed_out():
    reader = framing.FrameReader(MAX_BYTES)
    reader.feed(client_frame(TEXT, b"well") + client_frame(0x3))
    assert reader.next() == (TEXT, b"well")
    with pytest.raises(framing.FramingError):
        reader.next()


messages = st.lists(
    st.tuples(
        st.sampled_from([TEXT, BINARY, PING, PONG]),
        st.text(max_size=200).map(lambda text: text.encode()[:125]),
        st.integers(1, 4),
        st.binary(min_size=4, max_size=4),
    ),
    max_size=6,
)


@given(messages, st.lists(st.integers(0, 2000), max_size=12))
def test_any_cutting_of_the_bytes_gives_the_same_messages(said, cuts):
    said = [each for each in said if each[0] != TEXT or framing.is_utf8(each[1])]
    sent = b"".join(_in_frames(*each) for each in said)
    edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    pieces = [sent[a:b] for a, b in itertools.pairwise(edges)]
    assert read(*pieces) == [(kind, payload) for kind, payload, _, _ in said]


def _in_frames(kind: int, payload: bytes, count: int, mask: bytes) -> bytes:
    if kind in (PING, PONG):
        return client_frame(kind, payload, mask=mask)
    step = len(payload) // count + 1
    parts = [payload[at : at + step] for at in range(0, max(1, len(payload)), step)]
    kinds = [kind] + [CONTINUATION] * (len(parts) - 1)
    last = len(parts) - 1
    return b"".join(
        client_frame(each, part, fin=at == last, mask=mask)
        for at, (each, part) in enumerate(zip(kinds, parts, strict=True))
    )


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_mask_comes_off_without_anything_in_c(payload, mask):
    data = bytearray(payload)
    framing.unmask_slowly(mask, data)
    assert data == bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def test_lost_private_function_of_aiohttp_is_done_without(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp._websocket.helpers", None)
    name = framing.__name__
    spec = importlib.util.find_spec(name)
    alone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alone)
    assert alone._unmask is alone.unmask_slowly
    reader = alone.FrameReader(MAX_BYTES)
    reader.feed(client_frame(TEXT, b"well"))
    assert reader.next() == (TEXT, b"well")


@given(st.binary(max_size=300), st.integers(1, 50))
def test_rubbish_ends_in_an_error_or_in_waiting_never_in_anything_else(rubbish, step):
    def outcome(pieces: list[bytes]) -> tuple[list[tuple[int, bytes]], int | None]:
        reader, heard = framing.FrameReader(MAX_BYTES), []
        try:
            for piece in pieces:
                reader.feed(piece)
                while (message := reader.next()) is not None:
                    heard.append((message[0], bytes(message[1])))
        except framing.FramingError as error:
            return heard, error.status
        return heard, None

    cut = [rubbish[at : at + step] for at in range(0, len(rubbish), step)]
    assert outcome([rubbish]) == outcome(cut)


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frames_that_are_sent_say_their_size_in_the_shortest_way(size):
    payload = b"x" * size
    head = {0: 2, 125: 2, 126: 4, 65_535: 4, 65_536: 10}[size]
    for made in (framing.frame(TEXT, payload), framing.text_frame(payload)):
        assert len(made) == head + size
        assert (made[0], made[head:]) == (0x81, payload)
    assert framing.frame(CLOSE, b"\x03\xe9") == b"\x88\x02\x03\xe9"


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", 1005), (b"\x03\xe8", 1000), (b"\x03\xe9bye", 1001), (b"\x0f\xa0", 4000)],
)
def test_close_codes_are_read(payload, code):
    assert framing.close_code(payload) == code


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_close_codes_that_can_not_be_are_refused(code):
    with pytest.raises(framing.FramingError):
        framing.close_code(code.to_bytes(2, "big"))


@pytest.mark.parametrize("payload", [b"\x03", b"\x03\xe8\xff"])
def test_malformed_close_payloads_are_refused(payload):
    with pytest.raises(framing.FramingError):
        framing.close_code(payload)
