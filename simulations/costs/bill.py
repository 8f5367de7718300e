"""Prices, and what a month's traffic costs at them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dreamer.simulations.scenario.loader import naming, parse
from dreamer.simulations.scenario.tables import read

COMMITTED = Path(__file__).parent / "prices.toml"
GB = 10**9

_PRICE = {"bounds": (0.0, 1e6)}


@dataclass(frozen=True)
class Expected:
    """The egress of a month that the study was asked for, in dollars; compared, never used."""

    everything: float = field(default=0.0, metadata=_PRICE)
    caches: float = field(default=0.0, metadata=_PRICE)
    peers: float = field(default=0.0, metadata=_PRICE)


@dataclass(frozen=True)
class Prices:
    """US dollars, as ``prices.toml`` explains them."""

    egress_gb: float = field(metadata=_PRICE)
    cross_region_gb: float = field(metadata=_PRICE)
    get_1000: float = field(metadata=_PRICE)
    put_1000: float = field(metadata=_PRICE)
    turn_gb: float = field(metadata=_PRICE)
    storage_gb_month: float = field(metadata=_PRICE)
    expected_egress_usd: Expected = field(default_factory=Expected)


@dataclass(frozen=True)
class Traffic:
    """What moved in a month, counted on the simulated wires. ``cross_region_bytes`` are those of
    ``origin_bytes`` that stayed with the provider; ``cached_bytes`` never moved."""

    loads: int = 0
    pulls: int = 0
    cached_bytes: int = 0
    origin_bytes: int = 0
    cross_region_bytes: int = 0
    peer_bytes: int = 0
    relay_bytes: int = 0
    gets: int = 0
    puts: int = 0
    unfinished: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        ours, theirs = vars(self), vars(other)
        return Traffic(**{name: ours[name] + theirs[name] for name in ours})


@dataclass(frozen=True)
class Bill:
    """Dollars for a month. Storage is not in ``total_usd``: it is the same whatever moves."""

    egress_usd: float
    cross_region_usd: float
    requests_usd: float
    turn_usd: float

    @property
    def total_usd(self) -> float:
        """All that depends on how models get to machines."""
        return self.egress_usd + self.cross_region_usd + self.requests_usd + self.turn_usd


def price(traffic: Traffic, prices: Prices, scale: float = 1.0) -> Bill:
    """Return what traffic costs, ``scale`` times over (for a part that stands for the whole)."""
    internet_bytes = traffic.origin_bytes - traffic.cross_region_bytes
    requests = traffic.gets * prices.get_1000 + traffic.puts * prices.put_1000
    return Bill(
        egress_usd=scale * internet_bytes / GB * prices.egress_gb,
        cross_region_usd=scale * traffic.cross_region_bytes / GB * prices.cross_region_gb,
        requests_usd=scale * requests / 1000,
        turn_usd=scale * traffic.relay_bytes / GB * prices.turn_gb,
    )


def load_prices(path: Path = COMMITTED) -> Prices:
    """Return the prices in a file.

    Raises:
        InputError: it can't be read, or a price is missing or can't be.
    """
    with naming(path.name):
        return read(Prices, parse(path), "")
