"""Tells how likely tokens were: natural logarithms of the softmax of a model's own logits.

They are of the model as it is, before any temperature, penalty, bias or grammar, so they compare
between requests.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from dreamer.daemon.inference.answers.sampling import likeliest
from dreamer.daemon.inference.requests import TokenLogprob


def token_logprob(
    logits: NDArray[np.float32], token: int, count: int, tokenizer: Tokenizer
) -> TokenLogprob:
    """Return how likely ``token`` was, and the ``count`` likeliest at its place."""
    best = logits.max()
    # From the largest down, so that no exponential overflows.
    whole = float(best) + float(np.log(np.exp(logits - best).sum(dtype=np.float64)))
    ids = likeliest(logits, count) if count else ()
    top = tuple(
        (int(one), token_text(tokenizer, int(one)), float(logits[one]) - whole) for one in ids
    )
    return TokenLogprob(token, token_text(tokenizer, token), float(logits[token]) - whole, top)


@lru_cache(maxsize=65_536)
def token_text(tokenizer: Tokenizer, token: int) -> str:
    """Return a token's own text; U+FFFD where it holds a part of a character only."""
    once = tokenizer.decode([token])
    # The first token of a text may lose a leading space; the second of two doesn't.
    text = tokenizer.decode([token, token])[len(once) :]
    return text or tokenizer.id_to_token(token) or ""
