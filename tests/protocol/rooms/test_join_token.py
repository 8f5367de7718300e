from __future__ import annotations

import pytest

from dreamer.protocol.errors import InputError
from dreamer.protocol.rooms.card import RoomCard
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.protocol.rooms.token import JoinToken, decode_token


@pytest.fixture
def token(house) -> JoinToken:
    card = RoomCard(house.room_id, "team", ("http://127.0.0.1:1",), None, None, b"s" * 32)
    return JoinToken(card, (house.invitation(),), bytes([3]) * 32)


def test_token_survives_a_copy(token):
    text = token.encode()
    assert text.startswith("dreamer1.")
    assert "\n" not in text
    assert decode_token(f"  {text}\n") == token


def test_token_does_not_show_its_key(token):
    assert "03" * 8 not in repr(token)


def test_every_truncation_is_noticed(token):
    text = token.encode()
    for end in range(len(text)):
        with pytest.raises(InputError, match="not a whole join token: copy it again"):
            decode_token(text[:end])


def test_every_changed_letter_is_noticed(token):
    text = token.encode()
    for at in range(len("dreamer1."), len(text)):
        other = "A" if text[at] != "A" else "B"
        with pytest.raises(InputError, match="copy it again"):
            decode_token(text[:at] + other + text[at + 1 :])


@pytest.mark.parametrize(
    "text", ["", "hello", "dreamer1.", "dreamer1.ä", "dreamer1." + "A" * 99999]
)
def test_what_is_no_token_is_refused(text):
    with pytest.raises(InputError, match="copy it again"):
        decode_token(text)


def test_token_with_another_key_is_refused(token):
    other = JoinToken(token.card, token.chain, bytes([9]) * 32)
    assert SigningKey(other.seed).public != token.chain[-1].subject
    with pytest.raises(InputError, match="ask for a new one"):
        decode_token(other.encode())
