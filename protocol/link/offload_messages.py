"""The messages of ``control`` by which members run models for each other.

Only a peer whose capabilities have ``OFFLOAD`` knows them. A request is a byte string, made and
read in ``daemon/offload/wire.py``, in as many pieces as it takes; the answer comes token by token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

OFFLOAD = "offload"
"""The capability, and the version of these messages."""
OFFLOAD_VERSION = 2
"""2: requests may offer tools and say how much context they want, answers may be longer."""
OFFLOAD_LEAST_VERSION = 1
"""The first, which leaves out of a request what it doesn't know."""


@dataclass(frozen=True)
class Ask:
    """Run a model that you serve for me; ``data`` is the request's piece at ``offset``.

    ``what`` is asked of the model: ``generate``, ``infer`` or ``embed``. A request is begun when
    all of its ``total`` bytes are there.
    """

    kind: ClassVar[int] = 60
    request: int
    what: str
    manifest: bytes
    total: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Working:
    """I am at it: the request waits, its model is being loaded, or the next token is made."""

    kind: ClassVar[int] = 61
    request: int


@dataclass(frozen=True)
class Begun:
    """The model is loaded and the prompt is known to fit."""

    kind: ClassVar[int] = 62
    request: int
    prompt_tokens: int


@dataclass(frozen=True)
class Text:
    """A piece of an answer, and the tokens it came from (u32 each, little-endian).

    ``logprobs`` is empty unless they were asked for.
    """

    kind: ClassVar[int] = 63
    request: int
    text: str
    token_ids: bytes
    logprobs: bytes


@dataclass(frozen=True)
class Ended:
    """An answer is whole. Times in microseconds, as ``requests.Ended`` has them in seconds.

    ``text`` is what was held back, and comes of no further token: in the same message, so that who
    lost the link on the way here knows whether it was told.
    """

    kind: ClassVar[int] = 64
    request: int
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    first_token_us: int
    total_us: int
    queue_us: int
    load_us: int
    prefill_us: int
    decode_us: int


@dataclass(frozen=True)
class Failed:
    """A request can't be answered (any further); ``code`` is a DreamerError's.

    ``retry_after_ms`` is a guess of when asking again would help, 0 where none is made.
    """

    kind: ClassVar[int] = 65
    request: int
    code: str
    message: str
    retry_after_ms: int


@dataclass(frozen=True)
class StopAnswering:
    """I no longer need the answer."""

    kind: ClassVar[int] = 66
    request: int


@dataclass(frozen=True)
class Advert:
    """What I run for you, and how fast (``protocol.offload_adverts``); replaces what I said."""

    kind: ClassVar[int] = 67
    news: bytes


@dataclass(frozen=True)
class Answered:
    """A piece of the one answer to a request that is no generation, at ``offset`` of ``total``."""

    kind: ClassVar[int] = 68
    request: int
    total: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class WantPayload:
    """Send me the blocks, from ``first`` on, of a payload that you told me of.

    On the bulk channel or over our direct connection, as with ``Want``. Asked for again, what is
    before ``first`` still comes as it was asked for earlier. ``CancelWant`` leaves out blocks.
    """

    kind: ClassVar[int] = 69
    request: int
    payload: int
    first: int
    direct: bool


OffloadMessage = (
    Ask | Working | Begun | Text | Ended | Failed | StopAnswering | Advert | Answered | WantPayload
)
