"""The tokens of a prompt, up to where the answer begins.

What stands in a message is text and nothing else: a special token written out in it, such as
``<|im_end|>``, is encoded letter by letter and can't end the turn or begin another one. Only the
chat template writes special tokens, and whoever gives a raw prompt.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer

from dreamer.daemon.inference.answers.chat import plain_prompt, with_short_ids
from dreamer.daemon.inference.answers.description import Description
from dreamer.daemon.inference.answers.fitting import Encode, fitted_tokens, fitted_turns, room
from dreamer.daemon.inference.answers.tool_use import definitions, tool_template
from dreamer.daemon.inference.requests import GenerateRequest, Message
from dreamer.daemon.inference.thought_reading import knows_thinking
from dreamer.daemon.inference.tool_forms import MISTRAL
from dreamer.protocol.errors import InputError


def encode_prompt(
    request: GenerateRequest, description: Description, context: int | None = None
) -> list[int]:
    """Return the tokens of what is asked: ids as given, raw text, or turns by the template.

    What leaves no room in ``context`` tokens is cut where the request says so; None cuts nothing.

    Raises:
        InputError: the model's chat template refuses the conversation, or knows no tools.
    """
    tokenizer = description.tokenizer
    most = room(request, context) if request.truncate and context is not None else None
    if request.prompt_ids or request.raw_prompt is not None:
        ids = request.prompt_ids or tokenizer.encode(request.raw_prompt or "").ids
        return list(ids) if most is None else fitted_tokens(list(ids), most)
    encode = _encoding(request, description)
    turns = request.conversation()
    return encode(turns) if most is None else fitted_turns(turns, most, encode)


def _encoding(request: GenerateRequest, description: Description) -> Encode:
    """Return what makes tokens of a conversation."""
    tokenizer, template, tools = description.tokenizer, description.template, None
    short_ids = False
    if request.about_tools:
        template, form = tool_template(description)
        short_ids = form.begin == MISTRAL.begin
        tools = definitions(request.tools) if request.tools else None
    if request.thinking and not knows_thinking(description.template_source):
        raise InputError(
            "this model does not support thinking: leave it out, or take a model that thinks "
            "before it answers"
        )
    if template is None:
        return lambda turns: _plain(turns, tokenizer)

    def encode(turns: Sequence[Message]) -> list[int]:
        quoting = _Quoting(tokenizer)
        turns = with_short_ids(turns) if short_ids else turns
        return quoting.encode(template.render(turns, tools, quoting.quoted, request.thinking))

    return encode


def _plain(turns: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    with _as_text(tokenizer):
        return list(tokenizer.encode(plain_prompt(turns)).ids)


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

    def quoted(self, value: Any) -> Any:
        """Return a text, or a list or object of texts, with marks for special tokens."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self._pattern.sub(self._note, value)
        if isinstance(value, list):
            return [self.quoted(one) for one in value]
        if isinstance(value, dict):
            return {self.quoted(key): self.quoted(one) for key, one in value.items()}
        return value

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
