"""Answers the requests of a model that computes each in one go, a few side by side."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from typing import Any

from dreamer.daemon.inference.worker.runner import Frame, Inbox, Outbox, send_error
from dreamer.protocol.errors import DreamerError, StoppedError
from dreamer.protocol.inference_limits import TENSOR_REQUESTS_AT_ONCE

Answer = tuple[str, dict[str, Any]]


def serve_side_by_side(inbox: Inbox, outbox: Outbox, answer: Callable[[Frame], Answer]) -> None:
    """Answer every request with exactly one frame, for ever.

    While one is computed, another is read and written: each thread reads a request and sees it
    through, so it is never handed from thread to thread. A request that was cancelled is answered
    too, since its tensors may be in use until then.
    """

    def serve(frame: Frame) -> None:
        try:
            _answer(inbox, outbox, frame, answer)
        except BaseException:
            # A bug. The pool learns that the worker died, and whoever waits gets an error.
            traceback.print_exc()
            os._exit(1)

    # One more than compute: what frees an answer's memory is read while all others are busy.
    inbox.serve(serve, TENSOR_REQUESTS_AT_ONCE + 1)


def _answer(inbox: Inbox, outbox: Outbox, frame: Frame, answer: Callable[[Frame], Answer]) -> None:
    try:
        if inbox.cancelled(frame.number):
            raise StoppedError("nobody waits for this request any more")
        kind, fields = answer(frame)
        outbox.send(kind, frame.number, fields)
    except DreamerError as error:
        send_error(outbox, frame.number, error)
