"""What is to be sent goes out once a turn of the event loop, one system call a client.

Under load a turn brings several messages for the same client, the answers to its offers above all;
a system call costs more than everything else that is done for a message.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Sender(Protocol):
    """Something that has kept what it has to send."""

    def flush(self) -> None:
        """Send it now."""
        ...


class Postbag:
    """All that have something to send at the end of this turn."""

    __slots__ = ("_senders",)

    def __init__(self) -> None:
        self._senders: list[Sender] = []

    def add(self, sender: Sender) -> None:
        """Have a sender flushed when the turn ends."""
        if not self._senders:
            asyncio.get_running_loop().call_soon(self._empty)
        self._senders.append(sender)

    def _empty(self) -> None:
        senders, self._senders = self._senders, []
        for sender in senders:
            sender.flush()
