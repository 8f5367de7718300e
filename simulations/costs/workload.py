"""A month of people and models, as written in ``workload.toml``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dreamer.protocol.limits import RELAY_BUDGET_MIB_PER_PEER
from dreamer.simulations.scenario.loader import naming, parse
from dreamer.simulations.scenario.model import NatKind
from dreamer.simulations.scenario.tables import read

COMMITTED = Path(__file__).parent / "workload.toml"

_COUNT = {"bounds": (1, 1_000_000)}
_DAYS = {"bounds": (0, 3660)}
_HOURS = {"bounds": (0.0, 24.0)}
_SOME = {"bounds": (0.001, 1e9)}
_ANY = {"bounds": (0.0, 1e9)}


@dataclass(frozen=True)
class Catalogue:
    """All models: ``size_tb`` together, sizes lognormal around ``median_gb``. ``zipf``: how much
    more the popular ones are wanted (0: all alike)."""

    size_tb: float = field(default=30.0, metadata=_SOME)
    median_gb: float = field(default=1.0, metadata=_SOME)
    sigma: float = field(default=0.9, metadata={"bounds": (0.0, 3.0)})
    most_gb: float = field(default=40.0, metadata=_SOME)
    zipf: float = field(default=0.9, metadata={"bounds": (0.0, 5.0)})
    versions_per_room_month: float = field(default=8.0, metadata=_ANY)


@dataclass(frozen=True)
class People:
    """When people are there, and what they load. ``reload_share``: so often it is one of the
    last ``working_set`` models that they have loaded before."""

    loads_per_month: float = field(metadata=_ANY)
    reload_share: float
    working_set: int = field(default=6, metadata=_COUNT)
    present_share: float = 0.85
    begins_h: float = field(default=9.0, metadata=_HOURS)
    lasts_h: float = field(default=8.0, metadata=_HOURS)
    spread_h: float = field(default=1.0, metadata=_HOURS)
    always_on_share: float = 0.1
    home_share: float = 0.4


@dataclass(frozen=True)
class Machines:
    """What people's machines keep, and what lines and NATs they are behind."""

    cache_gb: float = 50.0
    office_up_mbit: float = field(default=500.0, metadata=_SOME)
    office_down_mbit: float = field(default=500.0, metadata=_SOME)
    home_up_mbit: float = field(default=40.0, metadata=_SOME)
    home_down_mbit: float = field(default=200.0, metadata=_SOME)
    office_nat: NatKind = "port_restricted"
    symmetric_share: float = 0.15
    no_udp_share: float = 0.05
    full_cone_share: float = 0.1
    relay_budget_mib: int = RELAY_BUDGET_MIB_PER_PEER


@dataclass(frozen=True)
class Workload:
    """All of it. ``users`` are shared out over rooms of ``users_per_room``."""

    people: People
    catalogue: Catalogue = field(default_factory=Catalogue)
    machines: Machines = field(default_factory=Machines)
    users: int = field(default=2000, metadata=_COUNT)
    users_per_room: int = field(default=30, metadata=_COUNT)
    days: int = field(default=30, metadata=_DAYS)
    warm_up_days: int = field(default=30, metadata=_DAYS)
    cloud_room_share: float = 0.0

    @property
    def rooms(self) -> int:
        """How many rooms there are; the last one may be smaller."""
        return -(-self.users // self.users_per_room)

    def members(self, room: int) -> int:
        """Return how many people a room has."""
        return min(self.users_per_room, self.users - room * self.users_per_room)


def load_workload(path: Path = COMMITTED) -> Workload:
    """Return the workload in a file.

    Raises:
        InputError: it can't be read, or what it says can't be.
    """
    with naming(path.name):
        return read(Workload, parse(path), "")
