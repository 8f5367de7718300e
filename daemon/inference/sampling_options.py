"""How a model's next token is chosen: the options that the APIs have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import (
    GRAMMAR_MAX_BYTES,
    LOGIT_BIAS_MAX,
    LOGIT_BIAS_MAX_TOKENS,
)


@dataclass(frozen=True)
class Sampling:
    """Options of one answer; as they stand, the likeliest token is taken each time (greedy).

    ``temperature`` 0 is greedy. ``top_p``, ``top_k`` (0: all) and ``min_p`` leave the likeliest
    tokens to draw from. ``repetition_penalty`` divides (or multiplies, below 0) the logits of
    tokens that were seen, in the last ``repeat_last_n`` of prompt and answer (-1: all);
    ``presence_penalty`` and ``frequency_penalty`` are OpenAI's, over the answer. The same ``seed``
    draws the same tokens, wherever the answer is continued; None lets the node choose one.
    ``logit_bias`` is added to logits, as (token id, bias).
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repeat_last_n: int = -1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()

    def check(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            InputError: a number is out of its range.
        """
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise InputError(f"{name} must be {low:g} to {high:g}, not {value}")
        if self.seed is not None and not -(2**63) <= self.seed < 2**64:
            raise InputError(f"the seed must fit into 64 bits, not be {self.seed}")
        self._check_bias()

    def _check_bias(self) -> None:
        if len(self.logit_bias) > LOGIT_BIAS_MAX_TOKENS:
            raise InputError(
                f"logit_bias names {len(self.logit_bias)} tokens, more than {LOGIT_BIAS_MAX_TOKENS}"
            )
        for token, bias in self.logit_bias:
            # Not a number compares with nothing, so it is refused too.
            if token < 0 or not abs(bias) <= LOGIT_BIAS_MAX:
                raise InputError(
                    f"logit_bias takes token ids and {-LOGIT_BIAS_MAX:g} to {LOGIT_BIAS_MAX:g}, "
                    f"not {token}: {bias}"
                )


_RANGES = (
    ("temperature", 0.0, 100.0),
    ("top_p", 0.0, 1.0),
    ("top_k", 0, 2**31),
    ("min_p", 0.0, 1.0),
    ("repetition_penalty", 0.01, 100.0),
    ("repeat_last_n", -1, 2**31),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
)


@dataclass(frozen=True)
class Grammar:
    """What an answer must look like: any JSON object, or one that a JSON schema describes."""

    kind: Literal["json", "schema"]
    text: str = ""

    def check(self) -> None:
        """Refuse what is no schema by its size alone; the worker looks at what it says.

        Raises:
            InputError: it is too long, or missing.
        """
        if self.kind == "schema" and not self.text:
            raise InputError("a JSON schema is missing; ask for plain JSON, or give one")
        if len(self.text) > GRAMMAR_MAX_BYTES:
            raise InputError(
                f"the JSON schema is longer than {GRAMMAR_MAX_BYTES} bytes; simplify it"
            )
