"""What people read: sizes, times, and other people's words made harmless to a terminal."""

from __future__ import annotations

import re

from dreamer.protocol.errors import InputError

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhdw])", re.ASCII)


def printable(text: str) -> str:
    """Return ``text`` without what a terminal would obey: names come from other machines."""
    return "".join(
        one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text
    )


def one_line(text: str) -> str:
    """Return ``text`` printable and on one line."""
    return printable(" ".join(text.split()))


def size(count: float) -> str:
    """Return bytes as people write them: ``94.2 MiB``."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def rate(bytes_s: float) -> str:
    """Return bytes per second as people write them."""
    return f"{size(bytes_s)}/s"


def duration_s(text: str) -> float:
    """Return the seconds in ``24h``, ``30m``, ``7d``, ``2w`` or ``90s``.

    Raises:
        InputError: it is not a number with one of these units, or it is zero.
    """
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not seconds:
        raise InputError(f"{text!r:.40} is no duration: write it like 30m, 24h or 7d")
    return seconds
