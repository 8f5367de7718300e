"""How long a model stays loaded, as Ollama's clients say it: ``5m``, ``1h30m``, 0, -1, ``-1s``."""

from __future__ import annotations

import math
import re
from contextlib import suppress

from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import OLLAMA_FOREVER_S

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)


def keep_alive_s(value: object) -> float | None:
    """Return the seconds of a ``keep_alive``: None if it says nothing, below 0 for ever.

    A number is in seconds; text is a duration of Go's (https://pkg.go.dev/time#ParseDuration).

    Raises:
        InputError: it is neither.
    """
    if value is None or value == "":
        return None
    seconds: float | None = None
    with suppress(OverflowError):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            seconds = float(value)
        elif isinstance(value, str):
            seconds = _duration_s(value.strip())
    if seconds is not None and math.isfinite(seconds):
        # No clock or calendar reaches further.
        return min(seconds, OLLAMA_FOREVER_S)
    raise InputError(
        f"keep_alive {value!r:.40} is no duration: say seconds, or text such as 5m, 1h30m or -1"
    )


def _duration_s(text: str) -> float | None:
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    # Ollama takes a bare number as text, too.
    if rest.isascii() and rest.isdecimal():
        return sign * float(rest)
    if not rest or _PART.sub("", rest):
        return None
    return sign * sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(rest))
