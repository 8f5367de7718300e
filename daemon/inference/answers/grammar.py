"""Keeps an answer to a grammar: JSON, or JSON that a schema describes.

llguidance says after each token which ones may follow; all others are forbidden in the logits.
End tokens are allowed only where the grammar may end, so an answer that wasn't cut off by
``max_tokens`` is whole.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import llguidance
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from dreamer.daemon.inference.sampling_options import Grammar
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import (
    GRAMMAR_MAX_MULTIPLE,
    GRAMMAR_MAX_WHITESPACE,
)

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

_ANY_OBJECT = '{"type": "object"}'

# Small models that don't know how to go on fall into blanks, which JSON allows without end.
WHITESPACE = rf"[ \n\r\t]{{0,{GRAMMAR_MAX_WHITESPACE}}}"
_OPTIONS: JsonCompileOptions = {"whitespace_pattern": WHITESPACE}


class Constraint:
    """Where an answer is in its grammar; ``ended`` when nothing more may come."""

    def __init__(self, grammar: str, tokenizer: Tokenizer, ends: frozenset[int]) -> None:
        """Begin a grammar of llguidance's; the first one of a model takes half a second.

        Raises:
            InputError: the schema is none, or uses what can't be kept to.
        """
        self._matcher = llguidance.LLMatcher(
            _vocabulary(tokenizer, tuple(sorted(ends))), grammar, log_level=0
        )
        if self._matcher.is_error():
            raise _unusable(self._matcher.get_error())

    @property
    def ended(self) -> bool:
        """Whether nothing more may come."""
        return self._matcher.is_stopped()

    def allowed(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits with minus infinity for all that may not follow.

        Raises:
            InputError: the grammar grew past the library's bounds.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        mask = np.unpackbits(bits, bitorder="little")[: len(logits)].view(np.bool_)
        # A graph may have more logits than the tokenizer has tokens: padding.
        left = np.full(len(logits), -np.inf, np.float32)
        np.copyto(left[: len(mask)], logits[: len(mask)], where=mask)
        return left

    def accept(self, token: int) -> None:
        """Go on by a token.

        Raises:
            InputError: the grammar doesn't allow it here.
        """
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = self._matcher.get_error().partition("<state>")[0].strip()
            # The schema's fault, not the worker's, which stays; no other would do better.
            raise InputError(
                f"the answer can't be kept to its JSON schema any further ({reason:.300}); "
                "use a simpler schema"
            )


# A worker holds one model; its vocabulary is read once for all grammars.
@lru_cache(maxsize=1)
def _vocabulary(tokenizer: Tokenizer, ends: tuple[int, ...]) -> llguidance.LLTokenizer:
    try:
        return llguidance.LLTokenizer(tokenizer.to_str(), eos_token=list(ends))
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"JSON can't be asked of this model, whose tokenizer is of an unknown kind ({error})"
        ) from error


def json_grammar(grammar: Grammar) -> str:
    """Return the grammar of JSON, or of what a schema describes.

    Raises:
        InputError: the schema is none, or would take too long to prepare.
    """
    return llguidance.LLMatcher.grammar_from_json_schema(json_schema(grammar), overrides=_OPTIONS)


def json_schema(grammar: Grammar) -> dict[str, Any]:
    """Return the schema that an answer is kept to; raises as ``json_grammar``."""
    text = _ANY_OBJECT if grammar.kind == "json" else grammar.text
    try:
        # Parsed first: the compiler pastes the text into a document of its own.
        schema = json.loads(text)
        check_multiples(schema)
    except (ValueError, RecursionError) as error:
        raise _unusable(f"it is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise _unusable("it is not a JSON object")
    return schema


def check_multiples(schema: Any) -> None:
    """Refuse multiples that take an automaton of millions of states, seconds to build."""
    if isinstance(schema, list):
        for one in schema:
            check_multiples(one)
    elif isinstance(schema, dict):
        multiple = schema.get("multipleOf")
        if isinstance(multiple, int | float) and multiple > GRAMMAR_MAX_MULTIPLE:
            raise _unusable(f"multipleOf is over {GRAMMAR_MAX_MULTIPLE}")
        for one in schema.values():
            check_multiples(one)


def _unusable(reason: str) -> InputError:
    # The library's own state follows its message.
    told = reason.partition("<state>")[0].strip()
    return InputError(
        f"the JSON schema can't be used ({told:.300}); leave that part out or simplify it"
    )
