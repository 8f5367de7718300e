"""How likely tokens were, in the form of chat and in the older one of completions."""

from __future__ import annotations

from collections.abc import Sequence

from dreamer.daemon.inference.requests import TokenLogprob
from dreamer.protocol.canonical import Json


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> Json:
    """Return the ``logprobs`` of a choice of a chat."""
    return {"content": [_token(one) for one in tokens], "refusal": None}


def _token(one: TokenLogprob) -> Json:
    top = [_likely(text, logprob) for _, text, logprob in one.top]
    return {**_likely(one.text, one.logprob), "top_logprobs": top}


def _likely(text: str, logprob: float) -> Json:
    # A part of a character has no text of its own, and its bytes can't be told from it.
    data = None if "\ufffd" in text else list(text.encode())
    return {"token": text, "logprob": logprob, "bytes": data}


def completion_logprobs(tokens: Sequence[TokenLogprob], offset: int) -> Json:
    """Return the ``logprobs`` of a completion, or of a piece that begins at ``offset``."""
    offsets = []
    for one in tokens:
        offsets.append(offset)
        offset += len(one.text)
    return {
        "tokens": [one.text for one in tokens],
        "token_logprobs": [one.logprob for one in tokens],
        "top_logprobs": [{text: logprob for _, text, logprob in one.top} for one in tokens],
        "text_offset": offsets,
    }
