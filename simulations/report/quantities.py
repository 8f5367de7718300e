"""Figures as people read them: decimal units, as networks and bills are counted in."""

from __future__ import annotations

_BYTES = ("B", "kB", "MB", "GB", "TB", "PB")
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def size(count: float) -> str:
    """Return bytes in powers of 1,000: ``14.0 GB``."""
    unit, divisor = size_unit(abs(count))
    return f"{count:,.0f} B" if unit == "B" else f"{count / divisor:,.1f} {unit}"


def size_unit(largest: float) -> tuple[str, float]:
    """Return the unit in which ``largest`` bytes read well, and how many bytes it is."""
    divisor = 1.0
    for unit in _BYTES[:-1]:
        # What would be rounded to 1,000 of a unit is one of the next.
        if largest < 999.95 * divisor:
            return unit, divisor
        divisor *= 1000
    return _BYTES[-1], divisor


def rate_unit(largest_bytes_s: float) -> tuple[str, float]:
    """Return the unit for rates up to ``largest_bytes_s``, and how many bytes a second it is."""
    for unit, bits_s in (("kbit/s", 1e3), ("Mbit/s", 1e6), ("Gbit/s", 1e9)):
        if largest_bytes_s * 8 < 1000 * bits_s:
            return unit, bits_s / 8
    return "Tbit/s", 1e12 / 8


def duration(seconds: float) -> str:
    """Return a time with as much precision as is of use: ``2.3 s``, ``4 min 05 s``, ``3 d 2 h``."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02} s"
    minutes = round(seconds / _MINUTE_S)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / _HOUR_S)
    return f"{hours // 24} d {hours % 24} h"


def time_unit(longest_s: float) -> tuple[str, float]:
    """Return the unit for an axis of ``longest_s`` seconds, and how many seconds it is."""
    for unit, seconds in (("s", 1), ("min", _MINUTE_S), ("h", _HOUR_S)):
        # An axis to 300 s or 5 h is read as easily as one to 5 min; beyond, the next unit is.
        if longest_s <= 5 * 60 * seconds:
            return unit, float(seconds)
    return "days", float(_DAY_S)


def share(part: float) -> str:
    """Return a share as a percentage; next to none and nearly all don't read as none and all."""
    percent = 100 * part
    if 0 < percent < 0.1:
        return "<0.1%"
    if 99.9 < percent < 100:
        return ">99.9%"
    return f"{percent:.0f}%" if percent in (0, 100) else f"{percent:.1f}%"


def times(ratio: float) -> str:
    """Return a ratio: ``1.07×``."""
    return f"{ratio:,.2f}×"


def usd(amount: float) -> str:
    """Return an amount in dollars; cents where they count."""
    return f"${amount:,.0f}" if abs(amount) >= 100 else f"${amount:,.2f}"
