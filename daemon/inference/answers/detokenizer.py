"""Turns token ids into text as they come, never cutting a character in two.

A byte-level token may end inside a UTF-8 sequence, which decodes to U+FFFD; such tokens are held
until the character is whole. Decoding starts at the last piece that was given out, since a
token's text may depend on the token before it (a leading space).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from dreamer.protocol.inference_limits import (
    DETOKENIZER_MAX_HELD_TOKENS,
)

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


_NONE: Mapping[int, str] = MappingProxyType({})


class Decodes(Protocol):
    """The part of a tokenizer that is needed here."""

    def decode(self, ids: Sequence[int], /) -> str:
        """Return the text of these tokens, special ones left out."""
        ...


class Detokenizer:
    """Holds the tokens whose text isn't out yet.

    ``shown`` are special tokens that are told as text, by their ids; others have none.
    """

    def __init__(self, tokenizer: Decodes, shown: Mapping[int, str] = _NONE) -> None:
        self._tokenizer = tokenizer
        self._shown = shown
        self._context: list[int] = []
        self._context_text = ""
        self._held: list[int] = []

    @property
    def held(self) -> tuple[int, ...]:
        """Tokens taken in whose text isn't out."""
        return tuple(self._held)

    def push(self, token_id: int) -> str:
        """Take one token; return the whole characters that are now known, often none."""
        if token_id in self._shown:
            return self._show(token_id)
        self._held.append(token_id)
        text = self._tokenizer.decode(self._context + self._held)
        # A character takes at most four bytes: after that many tokens it isn't coming.
        waiting = len(self._held) < DETOKENIZER_MAX_HELD_TOKENS
        if text.endswith(REPLACEMENT) and waiting:
            return ""
        piece = text[len(self._context_text) :]
        self._context, self._held = self._held, []
        self._context_text = self._tokenizer.decode(self._context)
        return piece

    def _show(self, token_id: int) -> str:
        """Return the text of a special token, and of what was held: no character goes across it."""
        before = self._tokenizer.decode(self._context + self._held) if self._held else ""
        piece = before[len(self._context_text) :]
        self._context, self._held, self._context_text = [], [], ""
        return piece + self._shown[token_id]
