"""What a busy server says of when to come again (RFC 9110, 10.2.3)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from dreamer.protocol.limits import ORIGIN_RETRY_AFTER_MAX_S

_SECONDS = re.compile(r"[0-9]{1,9}")


def retry_after_s(value: str, clock: Callable[[], float] = time.time) -> float:
    """Return the seconds that a ``Retry-After`` asks to wait: 0 for none, or one we can't read.

    It is a number or a date. No server can have us wait longer than ``ORIGIN_RETRY_AFTER_MAX_S``.
    """
    value = value.strip()
    if _SECONDS.fullmatch(value):
        wait_s = float(value)
    else:
        try:
            wait_s = parsedate_to_datetime(value).timestamp() - clock()
        except (ValueError, OverflowError):
            return 0.0
    return min(max(wait_s, 0.0), ORIGIN_RETRY_AFTER_MAX_S)
