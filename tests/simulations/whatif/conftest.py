"""A room as one of its nodes may have seen it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dreamer.protocol.topology import (
    Budget,
    LinkSeen,
    Measured,
    MemberSeen,
    ModelSeen,
    NodeSeen,
    StoreSeen,
    Topology,
    to_json,
)

MB = 1_000_000
MIB = 2**20


def member(name: str, lane: str | None = None, down: float = 0, up: float = 0, rtt_s=None):
    measured = Measured(down * MB, up * MB)
    over = lane if down or up else None
    link = LinkSeen(lane, rtt_s, measured, over, None) if lane else None
    return MemberSeen(name, "unknown", link)


ROOM = Topology(
    taken_at=1_795_000_000,
    room="cdcdcdcd",
    node=NodeSeen(
        "us", None, 5.0 * MB, Measured(10 * MB, 5 * MB),
        Budget(500 * MIB, 5000 * MIB, 50_000 * MIB, 0, 0), StoreSeen(0, 0, 10**12),
    ),
    origin=False,
    trackers=1,
    members=(
        member("seed", "direct", down=10, rtt_s=0.02),
        member("laptop", "webrtc", down=2, up=4, rtt_s=0.06),
        member("away"),
    ),
    models=(
        ModelSeen("abab0001", "tiny", 40 * MB, 2, 0, False, ("seed",), ("seed",)),
        ModelSeen("abab0002", "older", 30 * MB, 1, 30 * MB, False, ("seed", "laptop", "away"), ()),
    ),
)  # fmt: skip


@pytest.fixture
def room():
    """The topology; ``room(field=…)`` changes it."""

    def changed(**fields):
        return replace(ROOM, **fields)

    return changed


@pytest.fixture
def make_member():
    return member


@pytest.fixture
def written(tmp_path):
    """Writes a topology to a file; returns its path as text."""

    def write(topology, name="room.json") -> str:
        path = tmp_path / name
        path.write_text(json.dumps(to_json(topology)))
        return str(path)

    return write
