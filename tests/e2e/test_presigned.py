"""Nodes without any S3 credentials keep models at the room's origin: the tracker signs for them."""

from __future__ import annotations

import json

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import NO_S3_CREDENTIALS, S3_CREDENTIALS, tracker, until

pytestmark = pytest.mark.e2e

BUCKET = "models"
MIB = 2**20


def tables(endpoint: str, **prefix_of: str) -> dict[str, str]:
    """Return the environment of a tracker that signs for rooms."""
    origins = {
        room: {"url": f"s3://{BUCKET}/{prefix}", "endpoint_url": endpoint}
        for room, prefix in prefix_of.items()
    }
    return {**S3_CREDENTIALS, "DREAMER_TRACKER_ORIGINS": json.dumps(origins)}


def make_room(node, url: str, team):
    origin = ("--origin", f"s3://{BUCKET}/signed", "--endpoint-url", team.endpoint)
    return node.dreamer("room", "create", "signed", "--tracker", url, *origin)


def test_nodes_without_credentials_push_to_and_pull_from_the_bucket(team, watch):
    a, b = team.nodes("A", "B", env=NO_S3_CREDENTIALS)
    data, source = team.root / "tracker", team.model("gone", 17 * MIB, 5, 0)
    with tracker(data, env=tables(team.endpoint)) as url:
        room = make_room(a, url, team)
        # There is a room now, so that the owner of the tracker can let it in by its id.
        assert f"[tracker.origins.{room['room_id']}]" in room["advice"]
        waits = a.dreamer("push", str(source), "--room", "signed")
        assert waits["origin_state"] == "queued"
        for words in ("no tracker of room signed signs URLs", "AWS_ACCESS_KEY_ID"):
            assert words in waits["origin_error"]
        listen = url.removeprefix("http://")
    with tracker(data, listen, env=tables(team.endpoint, **{room["room_id"]: "signed"})):
        until(lambda: Dreamer(a.home).rooms()[0].connected, "the return to the tracker")
        team.join(b, a, "signed")
        pushed = a.dreamer("push", str(source), "--room", "signed", "--alias", "gone")
        assert pushed["uploaded"] > 17 * MIB
        a.process.stop()
        pulled = b.dreamer("pull", "gone", "--room", "signed", "--output", str(team.root / "got"))
        assert watch.content(team.root / "got") == watch.content(source)
        assert pulled["bytes"]["origin"] == 17 * MIB + 5
        for node in (a, b):
            assert "X-Amz" not in node.process.log.read_text()
    assert "X-Amz" not in (team.root / "tracker.log").read_text()
