"""What is remembered of good signatures lets nothing else pass for them."""

from __future__ import annotations

import pytest

from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.ids import NodeId
from dreamer.protocol.registry import checked
from dreamer.protocol.registry.checked import check_signed
from dreamer.protocol.rooms.keys import Purpose, SigningKey

KEY, OTHER = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
AUTHOR = NodeId(KEY.public)
MESSAGE = b'{"kind":"alias"}'


@pytest.fixture
def signature():
    made = KEY.sign(Purpose.ENTRY, MESSAGE)
    check_signed(AUTHOR, MESSAGE, made)
    return made


@pytest.fixture
def verifications(monkeypatch):
    """Count the signatures that are really checked."""
    seen = []
    real = checked.verify

    def counted(public, purpose, message, signature):
        seen.append(message)
        real(public, purpose, message, signature)

    monkeypatch.setattr(checked, "verify", counted)
    return seen


def test_good_signature_is_checked_once(signature, verifications):
    for _ in range(3):
        check_signed(AUTHOR, MESSAGE, signature)
    assert verifications == []


def test_known_signature_is_good_for_nothing_else(signature):
    for author, message, made in (
        (AUTHOR, MESSAGE + b" ", signature),
        (NodeId(OTHER.public), MESSAGE, signature),
        (AUTHOR, MESSAGE, OTHER.sign(Purpose.ENTRY, MESSAGE)),
        (AUTHOR, MESSAGE, KEY.sign(Purpose.TRACKER_LOGIN, MESSAGE)),
        # The same bytes one after the other, but cut elsewhere.
        (AUTHOR, MESSAGE[1:], signature + MESSAGE[:1]),
        (NodeId(AUTHOR + signature[:1]), MESSAGE, signature[1:]),
    ):
        with pytest.raises(ForbiddenError):
            check_signed(author, message, made)


def test_bad_signature_is_refused_every_time(verifications):
    for _ in range(2):
        with pytest.raises(ForbiddenError):
            check_signed(AUTHOR, b"never signed", b"s" * 64)
    assert len(verifications) == 2


def test_memory_is_bounded_and_forgetting_costs_a_check_alone(verifications):
    memory = checked._Checked(most=3)
    signed = [(b"%d" % number, KEY.sign(Purpose.ENTRY, b"%d" % number)) for number in range(8)]
    for _ in range(2):
        for message, made in signed:
            memory.check(AUTHOR, message, made)
            assert len(memory._good) <= 3
    assert len(verifications) > len(signed)
