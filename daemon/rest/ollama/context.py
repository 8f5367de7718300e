"""The ``context`` of ``/api/generate``: the conversation so far, as a list of whole numbers.

To clients it is opaque: they send back what they were given. Ollama's are token ids; here they
are the conversation's turns as text, so that it goes on wherever the next request is run, and
through the model's chat template as a chat does. Three bytes a number fit whatever a client keeps
them in.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from dreamer.daemon.inference.requests import Message
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import PROMPT_MAX_BYTES

_MARK = 0x447231
_PACK = 3
# JSON's quotes and escapes beside the longest prompt.
_MAX_BYTES = 2 * PROMPT_MAX_BYTES


def encode(turns: Sequence[Message]) -> list[int]:
    """Return a conversation as a list of numbers: a mark, the length in bytes, the bytes."""
    text = json.dumps([[turn.role, turn.content] for turn in turns], ensure_ascii=False).encode()
    packs = range(0, len(text), _PACK)
    return [_MARK, len(text), *(int.from_bytes(text[at : at + _PACK]) for at in packs)]


def decode(context: object) -> tuple[Message, ...]:
    """Return the conversation that ``encode`` wrote.

    Raises:
        InputError: somebody else wrote it.
    """
    if not context:
        return ()
    try:
        turns = json.loads(_packed_text(context))
        return tuple(Message(_text(role), _text(content)) for role, content in turns)
    # Somebody else's numbers can fail in any of these ways.
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise InputError(
            "this context is not one that this API gave: leave it out, or use /api/chat"
        ) from error


def _packed_text(context: object) -> str:
    if not isinstance(context, list):
        raise TypeError("no list")
    mark, size, *packs = context
    if mark != _MARK or not 0 <= size <= _MAX_BYTES:
        raise ValueError("another mark or length")
    # The last pack may be shorter.
    sizes = [min(_PACK, size - at) for at in range(0, size, _PACK)]
    whole = b"".join(pack.to_bytes(length) for pack, length in zip(packs, sizes, strict=True))
    return whole.decode()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
