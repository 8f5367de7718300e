"""Makes text of a step's tokens and sends it, while the next step computes.

A step's weights pass through the processor's caches, so whatever comes between two steps runs as
if for the first time: a third of a millisecond for one row. ONNX Runtime leaves Python's lock
while it computes, and so all that the next step doesn't depend on can be done meanwhile.
"""

from __future__ import annotations

import os
import queue
import threading
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dreamer.daemon.inference.answers.answer import Answer, Unsaid
from dreamer.daemon.inference.requests import Text, TokenLogprob
from dreamer.daemon.inference.worker.runner import Outbox

Told = tuple[str, int, dict[str, Any]]
"""A frame to the pool: kind, request, fields."""


@dataclass(frozen=True)
class Piece:
    """Text of an answer that is still to be made."""

    number: int
    answer: Answer
    unsaid: Unsaid


Said = Told | Piece


def settled(said: Iterable[Said]) -> list[Told]:
    """Return frames, text made; to be called in the order in which things were said."""
    told: list[Told] = []
    for one in said:
        if isinstance(one, Piece):
            texts = one.answer.say(one.unsaid)
            told += [("text", one.number, _text_fields(text)) for text in texts]
        else:
            told.append(one)
    return told


class Teller:
    """A thread that sends what steps say, at most one step behind."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._steps: queue.SimpleQueue[list[Said]] = queue.SimpleQueue()
        # Held while a step is being told: a pool that doesn't read holds the next step up.
        self._telling = threading.Lock()
        threading.Thread(target=self._tell_all, name="telling", daemon=True).start()

    def tell(self, said: list[Said]) -> None:
        """Send what a step says, when the one before is told."""
        if said:
            self._telling.acquire()
            self._steps.put(said)

    def wait(self) -> None:
        """Return when everything is told."""
        with self._telling:
            pass

    def _tell_all(self) -> None:
        while True:
            said = self._steps.get()
            try:
                self._outbox.send_all(settled(said))
            except BaseException:
                # As anywhere else in a worker: the pool reads why, and starts another.
                traceback.print_exc()
                os._exit(1)
            self._telling.release()


def _text_fields(text: Text) -> dict[str, Any]:
    """Return what a ``text`` frame carries; by hand, since ``asdict`` takes long."""
    return {
        "text": text.text,
        "token_ids": list(text.token_ids),
        "logprobs": [_logprob_fields(one) for one in text.logprobs],
    }


def _logprob_fields(one: TokenLogprob) -> dict[str, Any]:
    return {
        "token_id": one.token_id,
        "text": one.text,
        "logprob": one.logprob,
        "top": [list(top) for top in one.top],
    }
