"""How long blocking work ends early: its caller sets an event, the work raises at the next step."""

from __future__ import annotations

import threading

from dreamer.protocol.errors import StoppedError


def check(stop: threading.Event) -> None:
    """Raise StoppedError once ``stop`` is set."""
    if stop.is_set():
        raise StoppedError("stopped before the end: run the same command again to go on")
