"""Cuts a prompt that is longer than its context, as Ollama does: the oldest turns go first.

System messages stay, and the last turn does. Turns go whole, from one of the user's to the next, so
that answers keep their questions and results of tools their calls, which templates insist on. Of a
single text that is still too long only the first few tokens and the end are left.
https://github.com/ollama/ollama/blob/main/server/prompt.go, runner/ollamarunner/runner.go
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from dreamer.daemon.inference.requests import GenerateRequest, Message
from dreamer.protocol.inference_limits import TRUNCATED_ANSWER_SHARE, TRUNCATED_KEPT_TOKENS

Encode = Callable[[Sequence[Message]], list[int]]


def room(request: GenerateRequest, context: int) -> int:
    """Return how many tokens a prompt may have so that an answer fits behind it.

    Ollama fills the context and forgets half of it while it answers; nothing is forgotten here, so
    some of it is kept free for the answer.
    """
    context = min(context, request.context or context)
    answer = min(request.max_tokens, context // TRUNCATED_ANSWER_SHARE)
    return context - max(1, answer)


def fitted_turns(turns: Sequence[Message], most: int, encode: Encode) -> list[int]:
    """Return the tokens of as many of the last turns as fit into ``most``.

    Raises:
        InputError: the chat template refuses what is left of the conversation.
    """
    ids = encode(turns)
    if len(ids) <= most:
        return ids
    starts = [place for place, turn in enumerate(turns) if place and turn.role == "user"]
    if starts:
        # The more is left out the shorter it is: a few tries find the first that fits.
        first = bisect_left(
            starts, True, key=lambda start: len(encode(_from(turns, start))) <= most
        )
        ids = encode(_from(turns, starts[min(first, len(starts) - 1)]))
    return fitted_tokens(ids, most)


def fitted_tokens(ids: list[int], most: int) -> list[int]:
    """Return the first few tokens and the end of what is longer than ``most``."""
    if len(ids) <= most or most < 1:
        return ids
    kept = min(TRUNCATED_KEPT_TOKENS, most - 1)
    return ids[:kept] + ids[len(ids) - (most - kept) :]


def _from(turns: Sequence[Message], start: int) -> list[Message]:
    return [*(turn for turn in turns[:start] if turn.role == "system"), *turns[start:]]
