"""Metrics as Prometheus reads them, and what a node puts into them."""

from __future__ import annotations

import re

from dreamer.daemon.links.lane_bytes import LaneBytes
from dreamer.daemon.links.link import Link
from dreamer.daemon.loop_lag import BUCKETS_S
from dreamer.daemon.metrics import Histogram, Metric, render
from dreamer.daemon.node_metrics import node_metrics
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.swarm.vocabulary import Lane

STATUS = {
    "uptime_s": 12.5,
    "version": "1.2.3",
    "pulls": [{}, {}],
    "bytes_by_lane": {"origin": 7, "direct": 9},
    "store": {"path": "/x", "content_bytes": 100, "partial_bytes": 20, "free_bytes": 3},
    "relay": {
        "day_bytes": 5,
        "month_bytes": 50,
        "budget_bytes": {"per_peer_bytes": 1, "per_day_bytes": 2, "per_month_bytes": 3},
        "peers": [{"node_id": "ab" * 32, "name": 'a "b"\n\\', "month_bytes": 50, "left_bytes": 0}],
    },
    "loop_lag": {"beats": [1] * (len(BUCKETS_S) + 1), "total_s": 2.25},
}


def link(number: int = 1, relayed: bool = False) -> Link:
    room, peer = RoomId(b"r" * 32), NodeId(b"p" * 32)
    return Link(number, room, peer, relayed, {}, lambda command: None, 0.0)


def values(text: str) -> dict[str, float]:
    """Read what was rendered, as strictly as the format is written down."""
    found: dict[str, float] = {}
    described: set[str] = set()
    for line in text.splitlines():
        if about := re.fullmatch(r"# (HELP|TYPE) ([a-z_]+) .+", line):
            described.add(about[2])
            continue
        sample = re.fullmatch(r'([a-z_]+)(\{(?:[a-z]+="(?:[^"\\]|\\["\\n])*",?)*\})? (\S+)', line)
        assert sample, line
        assert sample[1] in described or re.sub("_(bucket|sum|count)$", "", sample[1]) in described
        key = sample[1] + (sample[2] or "")
        assert key not in found, line
        found[key] = float(sample[3])
    return found


def test_node_tells_what_it_counts():
    found = values(render(node_metrics(STATUS, LaneBytes())))
    assert found["dreamer_uptime_seconds"] == 12.5
    assert found["dreamer_pulls"] == 2
    assert found['dreamer_pulled_bytes_total{lane="direct"}'] == 9
    assert found['dreamer_store_bytes{kind="partial"}'] == 20
    assert found['dreamer_relayed_bytes{period="month"}'] == 50
    assert found['dreamer_relay_budget_bytes{period="peer_month"}'] == 1
    assert found["dreamer_event_loop_lag_seconds_sum"] == 2.25


def test_name_of_a_peer_can_not_break_out_of_its_label():
    text = render(node_metrics(STATUS, LaneBytes()))
    line = next(
        line for line in text.splitlines() if line.startswith("dreamer_relayed_peer_bytes{")
    )
    who = "ab" * 32
    assert line == f'dreamer_relayed_peer_bytes{{peer="{who}",name="a \\"b\\"\\n\\\\"}} 50'


def test_peers_whose_ids_begin_alike_are_told_apart():
    (peer,) = STATUS["relay"]["peers"]
    twin = {**peer, "node_id": "ab" * 31 + "cd"}
    text = render(
        node_metrics({**STATUS, "relay": {**STATUS["relay"], "peers": [peer, twin]}}, LaneBytes())
    )
    assert sum(key.startswith("dreamer_relayed_peer_bytes") for key in values(text)) == 2


def test_buckets_of_a_histogram_count_the_smaller_ones_too():
    found = values(render([Histogram("lag_seconds", "Lag.", (0.5, 1.0), (3, 2, 1), 4.0)]))
    assert found == {
        'lag_seconds_bucket{le="0.5"}': 3,
        'lag_seconds_bucket{le="1"}': 5,
        'lag_seconds_bucket{le="+Inf"}': 6,
        "lag_seconds_sum": 4,
        "lag_seconds_count": 6,
    }


def test_whole_numbers_are_written_whole():
    metric = Metric("bytes_total", "counter", "Bytes.", [({}, 2.0**60)])
    assert render([metric]).splitlines()[-1] == f"bytes_total {2**60}"


def test_bytes_go_to_the_lane_that_carried_them():
    lanes, moving = LaneBytes(), link(relayed=True)
    lanes.link_up(moving)
    moving.bytes_down, moving.bytes_up = 10, 1
    # As when ICE finds a better pair: what came before was relayed.
    moving.relayed = False
    lanes.lane_changed(moving)
    moving.bytes_down += 5
    assert (lanes.totals()[Lane.RELAY].down, lanes.totals()[Lane.RELAY].up) == (10, 1)
    assert lanes.totals()[Lane.WEBRTC].down == 5
    moving.bytes_up += 7
    lanes.link_down(moving, "gone")
    assert lanes.totals()[Lane.WEBRTC].up == 7
    assert lanes.standing()[Lane.WEBRTC] == 0


def test_links_are_counted_by_lane_and_those_that_are_spent():
    lanes, one, other = LaneBytes(), link(1), link(2, relayed=True)
    for each in (one, other):
        lanes.link_up(each)
    other.bulk_spent = True
    found = values(render(node_metrics(STATUS, lanes)))
    assert found['dreamer_links{lane="webrtc"}'] == 1
    assert found['dreamer_links{lane="relay"}'] == 1
    assert found["dreamer_links_relay_spent"] == 1
    # Blocks go another way, and nothing keeps them.
    other.direct = other.bulk
    found = values(render(node_metrics(STATUS, lanes)))
    assert found["dreamer_links_relay_spent"] == 0
