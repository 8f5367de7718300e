"""Durations as people write them: 90s, 30m, 24h, 7d."""

from __future__ import annotations

DAY_S = 24 * 3600.0
_UNITS = ((DAY_S, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"))
_LONG_S = 36_500 * DAY_S


def duration(seconds: float) -> str:
    """Return a duration in the largest unit of which it has at least one, to three digits."""
    if not seconds <= _LONG_S:
        return "more than 100 years"
    for unit_s, name in _UNITS:
        if seconds >= unit_s:
            # Whole numbers whole: 30 days, not 3e+01.
            count = seconds / unit_s
            return f"{count:.0f}{name}" if count >= 100 else f"{count:.3g}{name}"
    return f"{seconds:.3g}s"
