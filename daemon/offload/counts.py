"""What came of requests that could run elsewhere, and of those that ran here for others."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dreamer.daemon.metrics import Metric
from dreamer.protocol.offload import Choice


@dataclass
class OffloadCounts:
    """Counters since the start. ``where`` is ``local`` or ``peer``; times are in seconds.

    Estimated and real times are of the requests that were answered where they were first sent:
    the two sums divided by their number tell how good the estimates are.
    """

    asked: Counter[str] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    estimated_first_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    real_first_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    estimated_total_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    real_total_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    handovers: int = 0
    races: int = 0
    race_losers: int = 0
    spreads: int = 0
    served: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def sent(self, choice: Choice) -> None:
        """Count a request that was sent to a node."""
        self.asked[_where(choice)] += 1

    def lost(self, choice: Choice, code: str) -> None:
        """Count a runner that failed; ``code`` is the error's."""
        self.failed[_where(choice), code] += 1

    def first_token(self, choice: Choice, seconds: float) -> None:
        """Count a first token."""
        where = _where(choice)
        self.answered[where] += 1
        self.estimated_first_s[where] += choice.estimate.first_token_s
        self.real_first_s[where] += seconds

    def ended(self, choice: Choice, seconds: float) -> None:
        """Count an answer that was finished by the node that began it."""
        where = _where(choice)
        self.estimated_total_s[where] += choice.estimate.total_s
        self.real_total_s[where] += seconds

    def metrics(self) -> Iterator[Metric]:
        """Yield everything."""
        sums: tuple[tuple[str, str, Mapping[str, float]], ...] = (
            ("requests_total", "Requests sent to a runner, by where it is.", self.asked),
            ("answers_total", "Requests with a first token, by where it is.", self.answered),
            ("estimated_first_token_seconds_total", "As estimated.", self.estimated_first_s),
            ("first_token_seconds_total", "As it really was.", self.real_first_s),
            ("estimated_seconds_total", "Whole answers, as estimated.", self.estimated_total_s),
            ("seconds_total", "Whole answers, as it really was.", self.real_total_s),
        )
        for name, about, by_where in sums:
            samples = [
                ({"where": where}, float(by_where.get(where, 0.0))) for where in ("local", "peer")
            ]
            yield Metric(f"dreamer_offload_{name}", "counter", about, samples)
        failed = [
            ({"where": where, "code": code}, float(count))
            for (where, code), count in sorted(self.failed.items())
        ]
        yield Metric("dreamer_offload_failures_total", "counter", "Runners that failed.", failed)
        refused = [({"code": code}, float(count)) for code, count in sorted(self.refused.items())]
        yield Metric(
            "dreamer_offload_refused_total", "counter", "Peers' requests not served.", refused
        )
        for name, about, count in (
            ("handovers_total", "Answers that another runner went on with.", self.handovers),
            ("races_total", "Requests that two runners were started for.", self.races),
            ("race_losers_total", "Runners cancelled since another was first.", self.race_losers),
            ("spreads_total", "Batches that were shared out over several nodes.", self.spreads),
            ("served_total", "Peers' requests served to their end.", self.served),
        ):
            yield Metric(f"dreamer_offload_{name}", "counter", about, [({}, float(count))])


def _where(choice: Choice) -> str:
    return "local" if choice.local else "peer"
