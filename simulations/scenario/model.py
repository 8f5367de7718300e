"""A scenario: models, machines in groups, what is between them, and what happens to them.

Values as people think of them (gigabytes are 10**9 bytes, Mbit/s are 10**6 bits per second, seconds
of virtual time); ``loader.py`` reads them from TOML and says what is wrong with a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

NatKind = Literal["public", "full_cone", "restricted", "port_restricted", "symmetric", "no_udp"]
"""What a machine is behind. ``no_udp``: it may open TCP connections outwards, nothing else."""

Misdeed = Literal["bad_blocks", "claims_all", "silent", "floods"]
"""``bad_blocks``: what it sends is wrong. ``claims_all``: it says it holds what it refuses to give.
``silent``: it takes requests and sends nothing. ``floods``: it asks for more than it may."""


@dataclass(frozen=True)
class ModelSpec:
    """One model: ``size_gb`` in ``files`` files of about the same size, in simulated blocks of
    ``block_mib`` (0: the scenario's)."""

    name: str
    size_gb: float
    files: int = 1
    block_mib: int = 0


@dataclass(frozen=True)
class Wish:
    """That machines pull a model: each begins at a moment drawn between ``from_s`` and ``to_s``."""

    model: str
    from_s: float = 0.0
    to_s: float = 0.0


@dataclass(frozen=True)
class Churn:
    """Machines of a group come and go: times on and off are drawn from exponential distributions
    with these half-lives (seconds). ``off_half_life_s`` 0: whoever goes never comes back.
    ``keeps_disk``: what was fetched is there when it comes back."""

    on_half_life_s: float
    off_half_life_s: float = 0.0
    keeps_disk: bool = True


@dataclass(frozen=True)
class Group:
    """``count`` machines of a kind. Rates as a provider sells them; 0 for disk and hash rates: so
    fast that they never matter. ``leaves_at_s`` 0: never; ``leaves_at_share``: it goes once that
    share of all bytes that others are to fetch has been fetched (0: never).
    ``misdeed_from_s``: until then they behave; one that is ``silent`` from some moment on hangs.
    ``slow_share``: so many of them have a tenth of the rates."""

    name: str
    count: int
    up_mbit: float = 1000.0
    down_mbit: float = 1000.0
    region: str = "here"
    nat: NatKind = "public"
    holds: tuple[str, ...] = ()
    pulls: tuple[Wish, ...] = ()
    joins_from_s: float = 0.0
    joins_to_s: float = 0.0
    leaves_at_s: float = 0.0
    leaves_at_share: float = 0.0
    churn: Churn | None = None
    misdeed: Misdeed | None = None
    misdeed_from_s: float = 0.0
    slow_share: float = 0.0
    disk_gb: float = 0.0
    disk_mb_s: float = 0.0
    hash_mb_s: float = 0.0
    clock_skew_s: float = 0.0
    up_limit_mbit: float = 0.0
    down_limit_mbit: float = 0.0
    relay_budget_mib: int = 0
    uses_origin: bool = True
    uses_peers: bool = True
    """False: as with S3 alone, it neither asks members nor gives them anything."""
    scales: bool = True
    """Whether ``--nodes`` changes ``count``, if they pull; false for a cache or a server."""


@dataclass(frozen=True)
class OriginSpec:
    """The room's S3 bucket. ``egress_region``: traffic to other regions costs more if priced so.
    ``requests_s``: beyond so many requests a second it answers 503 (0: no limit)."""

    up_mbit: float = 10_000.0
    per_request_mbit: float = 720.0
    latency_ms: float = 40.0
    requests_s: float = 0.0
    region: str = "here"
    holds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Relay:
    """One TURN server and what it can carry, both ways together."""

    up_mbit: float = 1000.0
    region: str = "here"


@dataclass(frozen=True)
class Span:
    """A stretch of time."""

    from_s: float
    to_s: float


@dataclass(frozen=True)
class Partition:
    """While it lasts, machines of ``groups`` reach one another and nobody else."""

    span: Span
    groups: tuple[str, ...]
    origin_too: bool = False
    """Whether they can't reach the origin and the tracker either."""


@dataclass(frozen=True)
class Line:
    """Between two regions, either way: one-way latency, what it carries in all (0: no limit),
    and the share of packets that is lost."""

    one: str
    other: str
    latency_ms: float
    mbit: float = 0.0
    loss: float = 0.0


@dataclass(frozen=True)
class Network:
    """What is between machines. ``lines`` name pairs of regions; all others have the default."""

    latency_ms: float = 20.0
    loss: float = 0.0
    link_setup_s: float = 0.3
    """What it takes until a link stands, besides six round trips: certificates, processes."""
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Expect:
    """Figures that a run must reach; None: not asked for. Checked by ``dreamer-sim run``."""

    last_over_bound: float | None = None
    """The last completion of those who stay, as a multiple of the lower bound."""
    origin_copies: float | None = None
    """Bytes from the origin, in copies of the models pulled."""
    all_finish: bool = True
    bad_blocks_kept: int = 0
    relay_mib: float | None = None


@dataclass(frozen=True)
class Scenario:
    """All that a run needs but the seed. ``rate_interval_s``: how often shares of the network are
    divided anew at most; 0: at every change."""

    name: str
    about: str
    models: tuple[ModelSpec, ...]
    groups: tuple[Group, ...]
    seed: int = 1
    until_s: float = 24 * 3600.0
    block_mib: int = 64
    rate_interval_s: float = 0.1
    network: Network = field(default_factory=Network)
    origin: OriginSpec | None = None
    relays: tuple[Relay, ...] = ()
    partitions: tuple[Partition, ...] = ()
    tracker_outages: tuple[Span, ...] = ()
    expect: Expect = field(default_factory=Expect)
