"""One request in the batch: what is read of its prompt, what it decodes next, how long it took."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from dreamer.daemon.inference.answers.answer import Answer, Finished
from dreamer.daemon.inference.channel import Done


@dataclass
class Row:
    """Its sequence has ``past`` tokens in the cache; ``token`` is the one to decode next.

    ``prompt`` is read in chunks. ``replayed`` are tokens of the answer that another runner made:
    they are decoded once more, one by one, since that is what gave its bits. Times in seconds.
    """

    number: int
    answer: Answer
    prompt: Sequence[int]
    replayed: deque[int]
    joined_s: float
    past: int = 0
    cached: int = 0
    token: int = 0
    decoding: bool = False
    read_s: float = field(default=0.0)

    @classmethod
    def of(cls, number: int, answer: Answer, now_s: float) -> Row:
        """Return the row of an answer that has only begun."""
        ids, prompt_tokens = answer.prompt_ids, answer.prompt_tokens
        return cls(number, answer, ids[:prompt_tokens], deque(ids[prompt_tokens:]), now_s)

    @property
    def unread(self) -> int:
        """How many tokens of the prompt are still to be read."""
        return max(0, len(self.prompt) - self.past)

    def done(self, finished: Finished, now_s: float) -> Done:
        """Return the account of a finished answer."""
        read_s = self.read_s or now_s
        return Done(
            finish_reason=finished.finish_reason,
            prompt_tokens=len(self.prompt),
            completion_tokens=finished.completion_tokens,
            prefilled=min(self.past, len(self.prompt)) - self.cached,
            prefill_s=read_s - self.joined_s,
            decoded=max(0, self.past - len(self.prompt)),
            decode_s=now_s - read_s,
            cached_tokens=self.cached,
        )
