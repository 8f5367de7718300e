"""What a crowd counts, and what it makes of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class Books:
    """Counts of one crowd. ``offers_due`` are those that a tracker has a peer for."""

    announces: int = 0
    replies: int = 0
    done: int = 0
    offers_due: int = 0
    offers: int = 0
    answers_sent: int = 0
    answers: int = 0
    refused: int = 0
    misrouted: int = 0
    strange: int = 0

    def since(self, earlier: Books) -> Books:
        """Return what has been counted since ``earlier``."""
        before = asdict(earlier)
        return Books(**{key: value - before[key] for key, value in asdict(self).items()})

    def copy(self) -> Books:
        """Return the counts as they are now."""
        return Books(**asdict(self))

    @property
    def balanced(self) -> bool:
        """Whether every announce, offer and answer arrived once, where it should, and no other."""
        return (
            self.replies == self.announces
            and self.offers_due == self.offers == self.answers_sent == self.answers
            and not self.refused + self.misrouted + self.strange
        )


@dataclass(frozen=True)
class Latency:
    """Milliseconds from an announce's sending to an offer's arrival, over ``count`` offers."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @staticmethod
    def of(seconds: list[float]) -> Latency:
        """Return the percentiles (nearest rank) of some latencies."""
        if not seconds:
            return Latency(0, 0.0, 0.0, 0.0)
        ranked = sorted(seconds)
        last = len(ranked) - 1
        p50, p99 = ranked[round(0.5 * last)], ranked[round(0.99 * last)]
        return Latency(len(ranked), 1000 * p50, 1000 * p99, 1000 * ranked[-1])
