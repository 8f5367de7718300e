"""What a request used, as OpenAI counts it."""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.daemon.surfaces.inference import RunEnded
from dreamer.protocol.canonical import Json


@dataclass
class Usage:
    """Tokens of all choices so far; a prompt of several choices counts once."""

    choices_each: int = 1
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def add(self, index: int, ended: RunEnded) -> None:
        """Count the choice ``index``, which has ended."""
        self.completion_tokens += ended.completion_tokens
        if index % self.choices_each == 0:
            self.prompt_tokens += ended.prompt_tokens
            self.cached_tokens += ended.cached_tokens

    def to_json(self) -> Json:
        """Return the ``usage`` of an answer."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }
