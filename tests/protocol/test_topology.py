"""The document that tells the simulator of a room: there and back, and what is no such document."""

from __future__ import annotations

import copy
import json
import re

import pytest

from dreamer.protocol.errors import InputError
from dreamer.protocol.topology import (
    Budget,
    LinkSeen,
    Measured,
    MemberSeen,
    ModelSeen,
    NodeSeen,
    RelayUse,
    StoreSeen,
    Topology,
    from_json,
    to_json,
)

ROOM = Topology(
    taken_at=1_795_000_000,
    room="cdcdcdcd",
    node=NodeSeen(
        "aaaaaaaa", None, 2.5e6, Measured(9e6, 0.0), Budget(5, 50, 500, 1, 2), StoreSeen(7, 8, 9)
    ),
    origin=True,
    trackers=1,
    members=(
        MemberSeen(
            "bbbbbbbb",
            "unknown",
            LinkSeen("webrtc", 0.02, Measured(1e6, 2e6), "relay", RelayUse(3, 4)),
        ),
        MemberSeen("cccccccc", "symmetric", None),
    ),
    models=(ModelSeen("abababab", "tiny", 12, 2, 6, True, ("bbbbbbbb",), ("bbbbbbbb",)),),
)


def document():
    return json.loads(json.dumps(to_json(ROOM)))


def changed(path: str, value: object):
    """Return the document with one value replaced; ``-`` takes the field away."""
    whole = document()
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    place = whole
    for key in way:
        place = place[key]
    if value == "-":
        del place[last]
    else:
        place[last] = value
    return whole


def test_what_was_written_is_what_is_read():
    assert from_json(document()) == ROOM


@pytest.mark.parametrize("other", [{}, {"kind": "something"}, []])
def test_what_is_no_topology_is_said_to_be_none(other):
    with pytest.raises(InputError, match="dreamer export topology"):
        from_json(other)


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_other_versions_are_refused_with_what_to_do(version):
    with pytest.raises(InputError, match=r"reads version 1: export it anew"):
        from_json(changed("version", version))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("members", "-", "members"),
        ("node.id", 5, "id of node of the topology must be text"),
        ("node.measured.up_bytes_s", -1, "not negative"),
        ("node.measured.up_bytes_s", float("nan"), "not negative"),
        ("node.up_limit_bytes_s", True, "must be a number"),
        ("node.store.free_bytes", "1", "whole number"),
        ("origin", 1, "true or false"),
        ("members.0.nat", "upnp", "must be one of unknown, public"),
        ("members.0.link.lane", "pigeon", "must be one of"),
        ("members.0.link.rtt_s", "soon", "must be a number"),
        ("members.1.id", "bbbbbbbb", "names a node twice"),
        ("members.1.id", "aaaaaaaa", "names a node twice"),
        ("models.0.sharers", ["dddddddd", "bbbbbbbb"], "dddddddd, who is no member"),
        ("models.0.whole", ["cccccccc"], "held by a member that does not share it"),
        ("models.0.size_bytes", 1.5, "whole number"),
        ("models.0.extra", 1, "unknown fields: extra"),
    ],
)
def test_wrong_value_is_named(path, value, said):
    with pytest.raises(InputError, match=re.escape(said)):
        from_json(changed(path, value))


def test_model_told_twice_is_refused():
    twice = copy.deepcopy(document())
    twice["models"] *= 2
    with pytest.raises(InputError, match="names a model twice"):
        from_json(twice)
