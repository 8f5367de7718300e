"""Why the tracker turns a node away from a room, in a word for programs and a line for people."""

from __future__ import annotations

from enum import StrEnum

from dreamer.protocol.errors import ForbiddenError


class Reason(StrEnum):
    """The ``code`` of a ``refused`` message. Only ``FULL`` may pass by itself."""

    BAD_INPUT = "bad_input"
    FORBIDDEN = "forbidden"
    EXPIRED = "expired"
    USED = "used"
    REVOKED = "revoked"
    FULL = "full"


class RefusedError(ForbiddenError):
    """A node may not enter a room, or not any longer."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
