"""What was told of an answer so far, and how another runner goes on with it: exactly there.

A runner tells text as a pure function of the tokens before it, so a replay of the tokens that were
told goes on with the first character that was not. Two things need care. Text that comes of no
token is only what the last ones held back: it is told with the end, or who lost a runner between
the two would tell it twice. And an answer that was told whole but for its end can't be replayed
whole, since no token may follow: its last piece is made once more, and not told.
"""

from __future__ import annotations

from dataclasses import replace

from dreamer.daemon.inference.requests import GenerateRequest, Text


class Continuation:
    """One answer over several runners. ``take`` each piece; ``request`` what the next is asked."""

    def __init__(self, request: GenerateRequest) -> None:
        self._asked = request
        # The last piece is enough: an answer may have a hundred thousand.
        self._last: Text | None = None
        self._tokens: list[int] = list(request.token_ids_so_far)
        self._skip_chars = 0
        self._skip_tokens = 0
        self._held = ""

    @property
    def begun(self) -> bool:
        """Whether anything was told."""
        return self._last is not None

    @property
    def tokens(self) -> int:
        """How many tokens were told, of all runners."""
        return len(self._tokens)

    def take(self, piece: Text) -> Text | None:
        """Take a runner's piece; return what of it is to be told now, None if nothing is."""
        if not piece.token_ids:
            self._held += piece.text
            return None
        text = piece.text[self._skip_chars :]
        tokens = piece.token_ids[self._skip_tokens :]
        self._skip_chars -= min(self._skip_chars, len(piece.text))
        self._skip_tokens -= min(self._skip_tokens, len(piece.token_ids))
        if not text and not tokens:
            return None
        told = Text(text, tokens, piece.logprobs[len(piece.token_ids) - len(tokens) :])
        self._last = told
        self._tokens += tokens
        return told

    def flush(self) -> Text | None:
        """Return what is to be told before the end of the answer, if anything is."""
        text, self._held = self._held[self._skip_chars :], ""
        return Text(text, ()) if text else None

    def request(self) -> GenerateRequest:
        """Return what the next runner is asked; its pieces go through ``take`` as well."""
        self._skip_chars = self._skip_tokens = 0
        self._held = ""
        tokens = tuple(self._tokens)
        if self._last is not None and len(tokens) >= self._asked.max_tokens:
            again = self._last
            self._skip_chars, self._skip_tokens = len(again.text), len(again.token_ids)
            tokens = tokens[: len(tokens) - len(again.token_ids)]
        return replace(self._asked, token_ids_so_far=tokens)
