"""Offers and answers as texts: whole they are understood, anything else is told what it lacks."""

from __future__ import annotations

import string
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.limits import CONNECT_MAX_CANDIDATES, CONNECT_TEXT_MAX_CHARS
from dreamer.protocol.link.description import Candidate, CandidateKind, Description
from dreamer.protocol.link.meeting import (
    CHECKSUM_BYTES,
    Answer,
    Offer,
    decode,
    encode,
    hint_of,
)

CODE_OF_24_LINES_CHARS = 224
"""Capitals and digits that a QR code of 45 x 45 dots holds (version 7, level L)."""


def described(*addresses: str) -> Description:
    found = [Candidate(CandidateKind.HOST, ip_address(one), 40000) for one in addresses]
    return Description("hmJd", "RJ0PTe6IM5uMfcCBz2CxPu", b"f" * 32, tuple(found))


ROOM = RoomId(b"r" * 32)
OFFER = Offer(hint_of(ROOM), NodeId(b"n" * 32), 1_800_000_000, described("192.0.2.2", "fd00::2"))
ANSWER = Answer(hint_of(ROOM), NodeId(b"m" * 32), OFFER.mark, b"nn", OFFER.description)

offers = st.builds(
    Offer,
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=32, max_size=32).map(NodeId),
    st.integers(min_value=0, max_value=2**32 - 1),
    st.just(OFFER.description),
)
answers = st.builds(
    Answer,
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=32, max_size=32).map(NodeId),
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=2, max_size=2),
    st.just(OFFER.description),
)


@given(offers | answers)
def test_text_is_read_back(meeting):
    assert decode(encode(meeting)) == meeting


@given(offers | answers, st.integers(0, 400), st.sampled_from(string.ascii_uppercase + "234567"))
def test_one_changed_letter_is_always_noticed(meeting, place, letter):
    text = encode(meeting)
    place %= len(text)
    changed = text[:place] + letter + text[place + 1 :]
    if changed == text:
        return
    with pytest.raises(InputError):
        decode(changed)


@given(offers | answers, st.data())
def test_any_damage_is_refused(meeting, data):
    text = encode(meeting)
    first = data.draw(st.integers(0, len(text)))
    last = data.draw(st.integers(first, len(text)))
    middle = data.draw(st.text(string.ascii_uppercase + "234567.-", max_size=10))
    changed = text[:first] + middle + text[last:]
    if changed != text:
        with pytest.raises(InputError):
            decode(changed)


@pytest.mark.parametrize("letters", range(15, 219))
def test_text_cut_anywhere_is_called_cut_short(letters):
    with pytest.raises(InputError, match="cut short"):
        decode(encode(OFFER)[:letters])


def test_text_with_one_wrong_letter_is_called_that():
    text = encode(OFFER)
    wrong = text[:100] + ("A" if text[100] != "A" else "B") + text[101:]
    with pytest.raises(InputError, match="a wrong letter"):
        decode(wrong)
    with pytest.raises(InputError, match="a wrong letter, or some too many"):
        decode(text + "ABCDEFGH")


def test_line_breaks_spaces_and_small_letters_are_no_harm():
    text = encode(ANSWER)
    folded = "\n".join(text[i : i + 40] + "  " for i in range(0, len(text), 40)).lower()
    assert decode(f"\n {folded}\t\n") == ANSWER


@pytest.mark.parametrize("pasted", ["", "  ", "dreamer1.abc", "https://example.org", "DREAMER"])
def test_another_text_is_told_what_one_looks_like(pasted):
    with pytest.raises(InputError, match="begins with DREAMER-OFFER or DREAMER-ANSWER"):
        decode(pasted)


def test_letters_that_no_text_has_are_pointed_at():
    with pytest.raises(InputError, match="only letters and the digits 2 to 7"):
        decode(encode(OFFER).replace("A", "0", 1).replace("DRE0", "DREA") + "!")


def test_a_megabyte_is_refused():
    with pytest.raises(InputError, match="too long"):
        decode("DREAMER-OFFER." + "A" * 2**20)
    with pytest.raises(InputError, match="too long"):
        decode(" " * 2**20)


def test_an_offer_passed_off_as_an_answer_is_refused():
    with pytest.raises(InputError):
        decode(encode(OFFER).replace("OFFER", "ANSWER"))


def test_text_of_another_version_asks_for_the_same_one_on_both():
    from base64 import b32decode, b32encode

    from blake3 import blake3

    prefix, letters = encode(OFFER).split(".")
    body = b"\2" + b32decode(letters + "=" * (-len(letters) % 8))[1:-CHECKSUM_BYTES]
    checksum = blake3(f"{prefix}.".encode() + body).digest(length=CHECKSUM_BYTES)
    newer = b32encode(body + checksum).decode().rstrip("=")
    with pytest.raises(InputError, match="form 2, this machine's Dreamer reads form 1"):
        decode(f"{prefix}.{newer}")


def test_usual_texts_fit_a_small_code_and_the_longest_its_bound():
    assert len(encode(OFFER)) <= CODE_OF_24_LINES_CHARS
    assert len(encode(ANSWER)) <= CODE_OF_24_LINES_CHARS
    many = described(*(f"2001:db8::{i}" for i in range(1, CONNECT_MAX_CANDIDATES + 1)))
    longest = Answer(hint_of(ROOM), NodeId(b"m" * 32), OFFER.mark, b"nn", many)
    assert len(encode(longest)) <= 400 < CONNECT_TEXT_MAX_CHARS
    assert decode(encode(longest)) == longest


def test_offers_of_one_node_have_marks_of_their_own():
    later = Offer(OFFER.room_hint, OFFER.node, OFFER.expires + 1, OFFER.description)
    assert later.mark != OFFER.mark
