"""Answers the requests of a model that computes each in one go, a few side by side."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from typing import Any

from dreamer.daemon.inference.worker.runner import Frame, Inbox, Outbox, send_error
from dreamer.protocol.errors import DreamerError, StoppedError
from dreamer.protocol.inference_limits import TENSOR_REQUESTS_AT_ONCE

Answer = tuple[str, dict[str, Any]]


def serve_side_by_side(inbox: Inbox, outbox: Outbox, answer: Callable[[Frame], Answer]) -> None:
    """Answer every request with exactly one frame, for ever.

    While one is computed, another is read and written: each thread takes a request from the inbox
    and sees it through, so a lone request is never handed from thread to thread. A request that
    was cancelled is answered too, since its tensors may be in use until then.
    """

    def serve() -> None:
        try:
            while True:
                _answer_next(inbox, outbox, answer)
        except BaseException:
            # A bug. The pool learns that the worker died, and whoever waits gets an error.
            traceback.print_exc()
            os._exit(1)

    for _ in range(TENSOR_REQUESTS_AT_ONCE - 1):
        threading.Thread(target=serve, name="tensors", daemon=True).start()
    serve()


def _answer_next(inbox: Inbox, outbox: Outbox, answer: Callable[[Frame], Answer]) -> None:
    frame = inbox.wait()
    if frame.kind == "cancel":
        return
    try:
        if inbox.cancelled(frame.number):
            raise StoppedError("nobody waits for this request any more")
        kind, fields = answer(frame)
        outbox.send(kind, frame.number, fields)
    except DreamerError as error:
        send_error(outbox, frame.number, error)
