import json

import pytest

from dreamer.daemon.inference.requests import Message
from dreamer.daemon.rest.ollama.context import decode, encode
from dreamer.protocol.errors import InputError

TURNS = (Message("system", "Be brief."), Message("user", "wörld 🌍\n"), Message("assistant", ""))


@pytest.mark.parametrize("length", range(7))
def test_a_conversation_comes_back_whole(length):
    turns = (*TURNS, Message("user", "x" * length))
    context = json.loads(json.dumps(encode(turns)))
    assert decode(context) == turns
    assert all(isinstance(one, int) and 0 <= one < 2**31 for one in context)


@pytest.mark.parametrize("context", [None, []])
def test_no_context_is_no_conversation(context):
    assert decode(context) == ()


def _changed(place, value):
    context = encode(TURNS)
    context[place] = value
    return context


@pytest.mark.parametrize(
    "context",
    [
        [1, 2, 3],
        [5],
        "text",
        {"a": 1},
        encode(TURNS)[:-1],
        [*encode(TURNS), 1],
        _changed(0, 5),
        _changed(1, 10**12),
        _changed(1, -1),
        _changed(1, "many"),
        _changed(2, 2**40),
        _changed(2, -1),
        _changed(2, 1.5),
        _changed(2, None),
        _changed(2, 0xFFFFFF),
        _changed(-1, 0),
    ],
)
def test_a_context_that_is_not_ours_is_refused(context):
    with pytest.raises(InputError, match="leave it out, or use /api/chat"):
        decode(context)
