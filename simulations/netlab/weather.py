"""What a bad line does to frames: delay, rate, loss at random and loss in bursts. Pure."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from random import Random

QUEUE_MAX_S = 0.2
"""How long a frame may wait for its turn on a line with a rate; longer, and it is dropped."""


@dataclass(frozen=True)
class Weather:
    """A line's properties in each direction. The default is a perfect line.

    Loss is the two-state model of Gilbert and Elliott: a good state that loses ``loss`` of the
    frames and a bad one that loses ``burst_loss``; before each frame the line turns bad with
    probability ``turns_bad``, and good again with ``turns_good``.
    """

    delay_s: float = 0.0
    rate_bits_s: float = 0.0
    """0: without limit."""
    loss: float = 0.0
    burst_loss: float = 0.0
    turns_bad: float = 0.0
    turns_good: float = 1.0
    seed: int = 1

    def to_json(self) -> str:
        """Return it as the wire's command line takes it."""
        return json.dumps(asdict(self))

    @property
    def mean_loss(self) -> float:
        """The share of frames lost in the long run."""
        turning = self.turns_bad + self.turns_good
        bad = self.turns_bad / turning if turning else 0.0
        return bad * self.burst_loss + (1 - bad) * self.loss


def random_loss(share: float) -> Weather:
    """Each frame is lost with the same probability."""
    return Weather(loss=share)


def bursty_loss() -> Weather:
    """Lose 2% as well, but five frames in a row on average: how Wi-Fi loses them."""
    return Weather(burst_loss=0.85, turns_bad=0.005, turns_good=0.2)


def round_trip(seconds: float) -> Weather:
    """Delay both directions by half of a round trip."""
    return Weather(delay_s=seconds / 2)


class Line:
    """One direction: frames go in with the time, and come out when they are due, in order."""

    def __init__(self, weather: Weather, rng: Random) -> None:
        self._weather = weather
        self._rng = rng
        self._bad = False
        self._free_at = 0.0
        self._waiting: deque[tuple[float, bytes]] = deque()
        self.taken = 0
        self.lost = 0

    @property
    def next_due(self) -> float | None:
        """When the next frame comes out."""
        return self._waiting[0][0] if self._waiting else None

    def take(self, frame: bytes, now: float) -> None:
        """Let a frame in, or lose it."""
        self.taken += 1
        if self._loses() or self._free_at - now > QUEUE_MAX_S:
            self.lost += 1
            return
        if self._weather.rate_bits_s:
            self._free_at = max(now, self._free_at) + len(frame) * 8 / self._weather.rate_bits_s
        self._waiting.append((max(now, self._free_at) + self._weather.delay_s, frame))

    def due(self, now: float) -> Iterator[bytes]:
        """Yield the frames whose time has come."""
        # The delay is the same for all, so the queue is in order of time already.
        while self._waiting and self._waiting[0][0] <= now:
            yield self._waiting.popleft()[1]

    def _loses(self) -> bool:
        weather = self._weather
        if weather.turns_bad:
            turns = weather.turns_good if self._bad else weather.turns_bad
            self._bad ^= self._rng.random() < turns
        share = weather.burst_loss if self._bad else weather.loss
        return share > 0 and self._rng.random() < share
