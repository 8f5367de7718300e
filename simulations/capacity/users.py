"""People who use inference now and then: when each is at it, and when its frames are due.

A user is on and off in turn. While on, a frame is due at every tick of a grid of its own (a camera
keeps its own time), so that over a long time it sends exactly ``frames_s * duty`` a second,
whatever the lengths of its turns. Every user has a random stream of its own, made from the seed
and its number: one user more changes nothing for the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

Switching = Literal["exponential", "constant", "lognormal"]
"""How the lengths of turns are spread around their mean."""

LOGNORMAL_SIGMA = 1.0


@dataclass(frozen=True)
class Users:
    """``count`` users of ``frames_s`` while on, which is ``duty`` of the time; ``on_s``: how long
    a turn is on the average."""

    count: int
    frames_s: float = 25.0
    duty: float = 0.27
    on_s: float = 10.0
    switching: Switching = "exponential"

    @property
    def offered_frames_s(self) -> float:
        """Frames a second of all of them, on the average."""
        return self.count * self.frames_s * self.duty

    @property
    def off_s(self) -> float:
        """How long a pause is on the average."""
        return self.on_s * (1 - self.duty) / self.duty


@dataclass(frozen=True)
class Turn:
    """A user is on from ``start_s`` up to, and without, ``end_s``."""

    start_s: float
    end_s: float


def stream(seed: int, user: int, what: str) -> Random:
    """Return a user's random stream for one purpose; text seeds are the same in any process."""
    return Random(f"{seed}/{user}/{what}")


def turns(users: Users, user: int, seed: int, until_s: float) -> Iterator[Turn]:
    """Yield when a user is on.

    It begins in the middle of things, as if it had been going on for ever: on with probability
    ``duty``, and what is left of its first turn is drawn as such, so there is nothing to warm up.
    """
    rng = stream(seed, user, "turns")
    on = rng.random() < users.duty
    means = {True: users.on_s, False: users.off_s}
    start_s, length_s = 0.0, _what_is_left(rng, means[on], users.switching)
    while start_s < until_s:
        if on:
            yield Turn(start_s, start_s + length_s)
        start_s, on = start_s + length_s, not on
        length_s = _length_s(rng, means[on], users.switching)


def phase_s(users: Users, user: int, seed: int) -> float:
    """Return where the grid of a user's frames begins."""
    return stream(seed, user, "phase").random() / users.frames_s


def first_tick(turn: Turn, phase: float, frames_s: float) -> int:
    """Return the number of the first frame that is due in a turn."""
    tick = max(0, math.floor((turn.start_s - phase) * frames_s))
    # One step at most: the division above may have been rounded either way.
    while phase + tick / frames_s < turn.start_s:
        tick += 1
    return tick


def _length_s(rng: Random, mean_s: float, switching: Switching) -> float:
    if switching == "constant":
        return mean_s
    if switching == "exponential":
        return rng.expovariate(1 / mean_s)
    return rng.lognormvariate(math.log(mean_s) - LOGNORMAL_SIGMA**2 / 2, LOGNORMAL_SIGMA)


def _what_is_left(rng: Random, mean_s: float, switching: Switching) -> float:
    """Return the rest of a turn that somebody walks in on.

    Long turns are walked in on in proportion to their length, at a moment that is uniform in it
    (Feller, *An Introduction to Probability Theory*, II.4: the waiting-time paradox).
    """
    if switching == "exponential":
        return rng.expovariate(1 / mean_s)
    if switching == "constant":
        return rng.random() * mean_s
    # Weighed by length, a lognormal is one whose logarithm's mean is larger by the variance.
    return rng.random() * rng.lognormvariate(
        math.log(mean_s) + LOGNORMAL_SIGMA**2 / 2, LOGNORMAL_SIGMA
    )
