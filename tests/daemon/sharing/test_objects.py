"""Fetching manifests and outboards from a member that may lie, dawdle or go."""

from __future__ import annotations

import asyncio
import random

import pytest
from blake3 import blake3

from dreamer.daemon.sharing import objects
from dreamer.protocol.errors import RemoteError, RemoteProtocolError
from dreamer.protocol.limits import CHUNK_BYTES, OBJECT_PIECE_BYTES
from dreamer.protocol.link.messages import GetObject, ObjectPiece, Refuse

DATA = random.Random(3).randbytes(2 * OBJECT_PIECE_BYTES + 100)
DIGEST = blake3(DATA).digest()


@pytest.fixture
def giver(two):
    """The giver answers GetObject as the test says, in place of its own code."""
    two.giver.fanout.remove(two.giver.serving)

    def answering(answer):
        def hear(link, message):
            if isinstance(message, GetObject) and (said := answer(message)) is not None:
                link.send(said)

        two.giver.heard.message = hear
        return two.taker.objects.fetch(two.taker_end.link, DIGEST, 10**7)

    return answering


def piece(asked: GetObject, size: int = OBJECT_PIECE_BYTES) -> ObjectPiece:
    return ObjectPiece(asked.request, len(DATA), asked.offset, DATA[asked.offset :][:size])


async def test_an_object_in_several_pieces_is_put_together(giver) -> None:
    assert await giver(piece) == DATA


async def test_manifest_and_outboard_come_from_a_real_member(two) -> None:
    fetch, link = two.taker.objects.fetch, two.taker_end.link
    for digest in (two.manifest.id, two.manifest.outboard):
        assert blake3(await fetch(link, digest, 10**6)).digest() == digest


@pytest.mark.parametrize(
    "lie",
    [
        lambda asked: ObjectPiece(asked.request, 5, 0, b"other"),
        lambda asked: ObjectPiece(asked.request, 0, 0, b""),
        lambda asked: ObjectPiece(asked.request, len(DATA), 0, b""),
        lambda asked: ObjectPiece(asked.request, 10**9, asked.offset, b"x" * OBJECT_PIECE_BYTES),
        lambda asked: ObjectPiece(asked.request, len(DATA) + asked.offset, asked.offset, DATA[:9]),
        lambda asked: ObjectPiece(asked.request, len(DATA), 0, DATA[:OBJECT_PIECE_BYTES]),
        lambda asked: piece(asked, 1),
        lambda asked: piece(asked, CHUNK_BYTES - 1),
    ],
    ids=["another", "none", "empty", "endless", "growing", "repeated", "drops", "small pieces"],
)
async def test_a_member_that_sends_something_else_is_to_blame(giver, lie) -> None:
    with pytest.raises(RemoteProtocolError):
        await giver(lie)


async def test_a_refusal_is_no_crime(giver) -> None:
    with pytest.raises(RemoteError, match="not here") as error:
        await giver(lambda asked: Refuse(asked.request, False, "not here"))
    assert not isinstance(error.value, RemoteProtocolError)


async def test_a_member_that_does_not_answer_is_given_up(giver, monkeypatch) -> None:
    monkeypatch.setattr(objects, "OBJECT_TIMEOUT_S", 0.01)
    with pytest.raises(RemoteError, match="in time"):
        await giver(lambda asked: None)


async def test_a_member_that_goes_is_noticed_at_once(giver, two, kit) -> None:
    fetching = asyncio.ensure_future(giver(lambda asked: None))
    await kit.until(lambda: two.taker.objects._waiting)
    two.giver_end.cut("gone")
    with pytest.raises(RemoteError, match="lost the link"):
        await fetching
    assert two.taker.objects._waiting == {}


async def test_answers_to_nothing_are_ignored(two, kit) -> None:
    two.giver_end.say(ObjectPiece(99, 1, 0, b"x"))
    two.giver_end.say(Refuse(99, False, "no"))
    await kit.until(lambda: len(two.taker.heard.messages) == 2)
    assert two.taker_end.far is not None


async def test_a_cancelled_fetch_leaves_nothing_behind(giver, two, kit) -> None:
    fetching = asyncio.ensure_future(giver(lambda asked: None))
    await kit.until(lambda: two.taker.objects._waiting)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert two.taker.objects._waiting == {}
