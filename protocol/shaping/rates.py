"""Limits of the rate as a person writes them, and what they come to at a time of day.

``up`` and ``down`` are megabits per second, as networks are sold; a word that is not there is no
limit. Written as ``08:00-18:00 up=20 down=50`` for hours of the day, in local time, and as
``webrtc up=8`` for one lane. Hours that end before they begin go over midnight; of hours that
overlap the first counts, and what they don't name stays as it is at other times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dreamer.protocol.errors import InputError
from dreamer.protocol.limits import RATE_LIMIT_MAX_MBIT, RATE_LIMIT_MIN_MBIT
from dreamer.protocol.swarm.vocabulary import Lane

BYTES_PER_MBIT = 1_000_000 / 8
MINUTES_PER_DAY = 24 * 60

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24):([0-5]\d)")
_LIMITED = {lane.value: lane for lane in Lane}


@dataclass(frozen=True)
class Rates:
    """Bytes per second each way; None is no limit."""

    up: float | None = None
    down: float | None = None

    def over(self, other: Rates) -> Rates:
        """Return these, and where they say nothing the other's."""
        return Rates(
            other.up if self.up is None else self.up,
            other.down if self.down is None else self.down,
        )


@dataclass(frozen=True)
class Hours:
    """Part of every day, in minutes since midnight, and its limits."""

    begin: int
    end: int
    rates: Rates

    def hold(self, minute: int) -> bool:
        """Return whether a minute of the day lies within."""
        if self.begin <= self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end


@dataclass(frozen=True)
class Limits:
    """All limits of a node; ``lan_exempt``: those of the whole don't count within the site."""

    always: Rates = Rates()
    by_lane: tuple[tuple[Lane, Rates], ...] = ()
    by_hour: tuple[Hours, ...] = ()
    lan_exempt: bool = True

    def at(self, minute: int) -> Rates:
        """Return the limits of all lanes together at a minute of the day (0 to 1439)."""
        for hours in self.by_hour:
            if hours.hold(minute):
                return hours.rates.over(self.always)
        return self.always

    def of(self, lane: Lane) -> Rates:
        """Return the limits of one lane."""
        return dict(self.by_lane).get(lane, Rates())


def rate_bytes_s(mbit: float) -> float | None:
    """Return a limit in bytes per second; 0 stands for none.

    Raises:
        InputError: it is too small to move a block in reasonable time, or no number of use.
    """
    if mbit == 0:
        return None
    if not RATE_LIMIT_MIN_MBIT <= mbit <= RATE_LIMIT_MAX_MBIT:
        raise InputError(
            f"a limit must be 0 for none, or {RATE_LIMIT_MIN_MBIT:g} to "
            f"{RATE_LIMIT_MAX_MBIT:g} megabits per second, not {mbit:g}"
        )
    return mbit * BYTES_PER_MBIT


def parse_lanes(lines: Sequence[str]) -> tuple[tuple[Lane, Rates], ...]:
    """Return the limits of lanes written as ``webrtc up=8 down=20``.

    Raises:
        InputError: a line is not of that form, or names a lane twice.
    """
    found: dict[Lane, Rates] = {}
    for line in lines:
        name, *words = line.split()[:4] or [""]
        lane = _LIMITED.get(name)
        if lane is None or lane in found:
            raise InputError(
                f"{line!r}: a line is a lane, once ({', '.join(_LIMITED)}), and its limits, "
                'such as "webrtc up=8 down=20"'
            )
        found[lane] = _rates(words, line)
    return tuple(found.items())


def parse_schedule(lines: Sequence[str]) -> tuple[Hours, ...]:
    """Return the hours written as ``08:00-18:00 up=20 down=50``.

    Raises:
        InputError: a line is not of that form.
    """
    return tuple(_hours(line) for line in lines)


def _hours(line: str) -> Hours:
    when, *words = line.split()[:4] or [""]
    match = _HOURS.fullmatch(when)
    begin, end = 0, 0
    if match:
        first, second, third, fourth = map(int, match.groups())
        begin, end = first * 60 + second, third * 60 + fourth
    if not match or begin == end or end > MINUTES_PER_DAY:
        raise InputError(
            f"{line!r}: a line is hours of the day and their limits, such as "
            '"08:00-18:00 up=20 down=50"'
        )
    return Hours(begin, end, _rates(words, line))


def _rates(words: Sequence[str], line: str) -> Rates:
    found: dict[str, float | None] = {}
    for word in words:
        way, _, number = word.partition("=")
        # Not what float() takes, which knows of "nan" and "1_0".
        if way not in ("up", "down") or way in found or not re.fullmatch(r"\d+(\.\d+)?", number):
            raise InputError(f'{line!r}: {word!r} is no limit; write "up=20" or "down=50"')
        found[way] = rate_bytes_s(float(number))
    if not found:
        raise InputError(f'{line!r} names no limit; add "up=20", "down=50" or both')
    return Rates(found.get("up"), found.get("down"))
