"""What the pool counts: by model, by worker, and how long the parts of a request take.

Rates forget: an old request weighs less with every new one, so that a rate follows the machine's
load and can be told to others as what to expect now.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from dreamer.daemon.inference.channel import Done

RATE_DECAY = 0.8
"""What is left of a request's weight in a rate with each request after it."""

BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass
class Rate:
    """Units a second over requests, the last ones weighing most; 0 before the first."""

    _units: float = 0.0
    _seconds: float = 0.0

    def add(self, units: float, seconds: float) -> None:
        """Take in a request's part; one without units or time says nothing."""
        if units > 0 and seconds > 0:
            self._units = self._units * RATE_DECAY + units
            self._seconds = self._seconds * RATE_DECAY + seconds

    @property
    def per_s(self) -> float:
        """The rate."""
        return self._units / self._seconds if self._seconds else 0.0


@dataclass
class Mean:
    """The mean of seconds, the last ones weighing most; 0 before the first."""

    _rate: Rate = field(default_factory=Rate)

    def add(self, seconds: float) -> None:
        """Take in one."""
        self._rate.add(1.0, seconds)

    @property
    def seconds(self) -> float:
        """The mean."""
        per_s = self._rate.per_s
        return 1 / per_s if per_s else 0.0


@dataclass
class Buckets:
    """Durations, counted by ``BUCKETS_S``."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total_s += seconds


@dataclass
class Durations:
    """How long requests took, all models together."""

    queue: Buckets = field(default_factory=Buckets)
    load: Buckets = field(default_factory=Buckets)
    first_token: Buckets = field(default_factory=Buckets)
    output_token: Buckets = field(default_factory=Buckets)
    request: Buckets = field(default_factory=Buckets)


@dataclass
class Speeds:
    """How fast prompts are read and answers written, tokens a second."""

    prefill: Rate = field(default_factory=Rate)
    decode: Rate = field(default_factory=Rate)

    def count(self, done: Done) -> None:
        """Take in a finished generation."""
        self.prefill.add(done.prefilled, done.prefill_s)
        self.decode.add(done.decoded, done.decode_s)


@dataclass
class Tally:
    """What befell a model since this node started. Seconds are sums."""

    requests: int = 0
    answered: int = 0
    failures: int = 0
    refused: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    loads: int = 0
    load_s: float = 0.0
    failed_loads: int = 0
    evictions: int = 0
    lost_workers: int = 0
    retries: int = 0
    speeds: Speeds = field(default_factory=Speeds)
    runs: Rate = field(default_factory=Rate)
    """Runs of a graph that has one answer, a second."""
    service: Mean = field(default_factory=Mean)
    """How long a request holds its slot."""
    loading: Mean = field(default_factory=Mean)

    def generated(self, done: Done) -> None:
        """Count a finished generation."""
        self.prompt_tokens += done.prompt_tokens
        self.cached_tokens += done.cached_tokens
        self.completion_tokens += done.completion_tokens
        self.prefill_s += done.prefill_s
        self.decode_s += done.decode_s
        self.speeds.count(done)

    def computed(self, seconds: float, prompt_tokens: int = 0, rows: int = 0) -> None:
        """Count tensors or texts that went through the graph in one run.

        Tensors have no tokens: their rate is in ``rows`` of the batch.
        """
        self.prompt_tokens += prompt_tokens
        self.prefill_s += seconds
        self.runs.add(1, seconds)
        self.speeds.prefill.add(prompt_tokens or rows, seconds)

    def loaded(self, seconds: float) -> None:
        """Count a load."""
        self.loads += 1
        self.load_s += seconds
        self.loading.add(seconds)
