"""What numbers of a scenario may be, by the unit that their names end in, and the exceptions.

A simulation of nonsense ends late or never: a share of 30 where 0.3 was meant, a rate of nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

Bounds = tuple[float, float]

SECONDS_MAX = 10 * 366 * 86400.0
MACHINES_MAX = 100_000
NAME_MAX = 64

BY_UNIT: Mapping[str, Bounds] = {
    "s": (0, SECONDS_MAX),
    "ms": (0, 60_000),
    "mbit": (0, 10_000_000),
    "gb": (0, 1_000_000),
    "mib": (0, 1_000_000_000),
    "share": (0, 1),
    "copies": (0, 1_000_000),
}
"""Inclusive. A name without any of these is bounded only where it is named below."""

# What is divided by must not be zero, and nothing ends that waits for an uplink of nothing.
_RATE: Bounds = (0.001, 10_000_000)
_HALF_LIFE: Bounds = (1, SECONDS_MAX)

BY_NAME: Mapping[str, Bounds] = {
    "ModelSpec.size_gb": (0.001, 100_000),
    "ModelSpec.files": (1, 10_000),
    "ModelSpec.block_mib": (0, 65_536),
    "Churn.on_half_life_s": _HALF_LIFE,
    "Group.count": (1, MACHINES_MAX),
    "Group.up_mbit": _RATE,
    "Group.down_mbit": _RATE,
    "Group.disk_mb_s": (0, 1_000_000),
    "Group.hash_mb_s": (0, 1_000_000),
    "Group.clock_skew_s": (-SECONDS_MAX, SECONDS_MAX),
    "OriginSpec.up_mbit": _RATE,
    "OriginSpec.per_request_mbit": _RATE,
    "OriginSpec.requests_s": (0, 10_000_000),
    "Relay.up_mbit": _RATE,
    "Line.loss": (0, 0.99),
    "Network.loss": (0, 0.99),
    "Expect.last_over_bound": (1, 1_000_000),
    "Expect.bad_blocks_kept": (0, 1_000_000_000),
    "Scenario.seed": (0, 2**63 - 1),
    "Scenario.until_s": (1, SECONDS_MAX),
    "Scenario.block_mib": (1, 65_536),
    "Scenario.rate_interval_s": (0, 3600),
}
"""``Class.field``: goes before its unit."""


def bounds_of(owner: str, name: str) -> Bounds | None:
    """Return the least and the most that a number may be; None: whatever it is."""
    return BY_NAME.get(f"{owner}.{name}") or BY_UNIT.get(name.rsplit("_", 1)[-1])
