"""Whether an answer holds the bytes that were asked for (RFC 9110, 14.4)."""

from __future__ import annotations

import re

from dreamer.daemon.origin.faults import OriginError

# 19 digits hold any size there is; Python refuses to read thousands of them.
_NUMBER = r"[0-9]{1,19}"
_CONTENT_LENGTH = re.compile(_NUMBER)
_CONTENT_RANGE = re.compile(rf"bytes ({_NUMBER})-({_NUMBER})/(?:{_NUMBER}|\*)")


def asked_range(offset: int, length: int) -> str:
    """Return the value of a ``Range`` header."""
    # Both ends of an HTTP range are included (RFC 9110, 14.1.2).
    return f"bytes={offset}-{offset + length - 1}"


def declared_size(content_length: str) -> int | None:
    """Return the bytes that a ``Content-Length`` declares, None if it is none."""
    return int(content_length) if _CONTENT_LENGTH.fullmatch(content_length) else None


def check_range(what: str, content_range: str, size: int | None, offset: int, length: int) -> None:
    """Refuse an answer that holds other bytes than the range asked for.

    ``content_range`` is its header, empty if there is none; ``size`` its length in bytes.

    Raises:
        OriginError: it does.
    """
    # Believing a server that ignores Range would reject every block as damaged.
    found = _CONTENT_RANGE.fullmatch(content_range)
    if found is not None:
        good = (int(found[1]), int(found[2])) == (offset, offset + length - 1)
    else:
        # A whole key may be sent as such.
        good = offset == 0 and size == length
    if not good:
        raise OriginError(f"{what}: other bytes than asked for; its server must honour Range")
