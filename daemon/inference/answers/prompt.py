"""The tokens of a prompt, up to where the answer begins.

What stands in a message is text and nothing else: a special token written out in it, such as
``<|im_end|>``, is encoded letter by letter and can't end the turn or begin another one. Only the
chat template writes special tokens, and whoever gives a raw prompt.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache

from tokenizers import Tokenizer

from dreamer.daemon.inference.answers.chat import plain_prompt
from dreamer.daemon.inference.answers.description import Description
from dreamer.daemon.inference.requests import GenerateRequest, Message


def encode_prompt(request: GenerateRequest, description: Description) -> list[int]:
    """Return the tokens of what is asked: ids as given, raw text, or turns by the template.

    Raises:
        InputError: the model's chat template refuses the conversation.
    """
    tokenizer, template = description.tokenizer, description.template
    if request.prompt_ids:
        return list(request.prompt_ids)
    if request.raw_prompt is not None:
        return list(tokenizer.encode(request.raw_prompt).ids)
    turns = request.conversation()
    if template is None:
        with _as_text(tokenizer):
            return list(tokenizer.encode(plain_prompt(turns)).ids)
    quoting = _Quoting(tokenizer)
    return quoting.encode(template.render(tuple(map(quoting.quoted, turns))))


class _Quoting:
    """Stands in for special tokens in messages while the template does its work.

    Each is replaced by a mark that nobody can guess, in characters that templates pass on. The
    rendered text is cut at the marks, where the special token would have cut it too.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._pattern = _special_pattern(tokenizer)
        self._mark = f"\ue000{secrets.token_hex(8)}"
        self._found: list[str] = []

    def quoted(self, turn: Message) -> Message:
        """Return the turn with marks for special tokens."""
        if self._pattern is None:
            return turn
        content = self._pattern.sub(self._note, turn.content)
        return replace(turn, role=self._pattern.sub(self._note, turn.role), content=content)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of what the template made of the turns."""
        ids: list[int] = []
        pieces = re.split(f"{self._mark}:([0-9]+)\ue001", text)
        # By turns what stands between marks, and the number of a mark.
        for place, piece in enumerate(pieces):
            if place % 2 == 0:
                ids += self._tokenizer.encode(piece, add_special_tokens=False).ids
            else:
                with _as_text(self._tokenizer):
                    special = self._found[int(piece)]
                    ids += self._tokenizer.encode(special, add_special_tokens=False).ids
        return ids

    def _note(self, match: re.Match[str]) -> str:
        self._found.append(match.group())
        return f"{self._mark}:{len(self._found) - 1}\ue001"


@lru_cache(maxsize=1)
def _special_pattern(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """Return what finds special tokens in text, the longest at each place."""
    added = tokenizer.get_added_tokens_decoder().values()
    special = [one.content for one in added if one.special and one.content]
    special.sort(key=len, reverse=True)
    return re.compile("|".join(map(re.escape, special))) if special else None


@contextmanager
def _as_text(tokenizer: Tokenizer) -> Iterator[None]:
    """Encode special tokens as the letters they are written with."""
    tokenizer.encode_special_tokens = True
    try:
        yield
    finally:
        tokenizer.encode_special_tokens = False
