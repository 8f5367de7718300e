"""Uploads that end by themselves: any member pulls them meanwhile, and the origin is swept."""

from __future__ import annotations

import json
import time

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import NO_S3_CREDENTIALS, S3_CREDENTIALS, tracker, until

pytestmark = pytest.mark.e2e

BUCKET = "models"
PREFIX = "passing"
MIB = 2**20


def sweeping(endpoint: str, *rooms: str) -> dict[str, str]:
    """Return the environment of a tracker that signs for rooms, and sweeps every second."""
    table = {"url": f"s3://{BUCKET}/{PREFIX}", "endpoint_url": endpoint}
    return {
        **S3_CREDENTIALS,
        "DREAMER_TRACKER_ORIGINS": json.dumps(dict.fromkeys(rooms, table)),
        "DREAMER_TRACKER_SWEEP_INTERVAL_S": "1",
    }


def keys(team) -> set[str]:
    """Return the keys of temporary uploads, without what all begin with."""
    begin = f"{PREFIX}/temporary/"
    found = team.s3().list_objects_v2(Bucket=BUCKET, Prefix=begin).get("Contents", [])
    return {each["Key"].removeprefix(begin) for each in found}


def test_dataset_is_pulled_while_it_lasts_and_what_is_over_is_swept(team, watch):
    a, b = team.nodes("A", "B", env=NO_S3_CREDENTIALS)
    data, source = team.root / "tracker", team.model("dataset", 9 * MIB, 7)
    with tracker(data) as url:
        origin = ("--origin", f"s3://{BUCKET}/{PREFIX}", "--endpoint-url", team.endpoint)
        room = a.dreamer("room", "create", "passing", "--tracker", url, *origin)["room_id"]
        listen = url.removeprefix("http://")
    # As an earlier upload left them, one that is over and one that has another day.
    over, lasting = int(time.time()) - 3600, int(time.time()) + 86_400
    stale, fresh = f"1/{over}/files/{'ab' * 32}", f"1/{lasting}/files/{'ab' * 32}"
    for key in (f"{PREFIX}/temporary/{stale}", f"{PREFIX}/temporary/{fresh}", "temporary/other"):
        team.s3().put_object(Bucket=BUCKET, Key=key, Body=b"old")
    with tracker(data, listen, env=sweeping(team.endpoint, room)):
        until(lambda: Dreamer(a.home).rooms()[0].connected, "the return to the tracker")
        team.join(b, a, "passing")
        sent = a.dreamer("upload", str(source), "--ttl", "24h")
        assert 86_300 < sent["expires_at"] - time.time() <= 86_404
        assert sent["origin_state"] == "stored"
        place = f"1/{int(sent['expires_at'])}/"
        assert len([key for key in keys(team) if key.startswith(place)]) == 4
        a.process.stop()
        b.dreamer("pull", sent["short_id"], "--output", str(team.root / "got"))
        assert watch.content(team.root / "got") == watch.content(source)
        until(lambda: stale not in keys(team), "the sweep")
        assert fresh in keys(team)
        assert len(keys(team)) == 5
        # Nobody signs URLs with which all of a room could be removed.
        watch.one_line(b.try_dreamer("room", "gc"), "credentials of its own", "garbage")
    team.s3().head_object(Bucket=BUCKET, Key="temporary/other")


def test_reference_ends_with_its_time_and_a_push_for_good_keeps_it(team, watch):
    c = team.node("C")
    team.room(c, "brief", origin=True)
    brief, kept = team.model("brief", 1000), team.model("kept", 2000)
    sent = c.dreamer("upload", str(brief), "--ttl", "2s", "--room", "brief")
    until(
        lambda: c.try_dreamer("pull", sent["short_id"], "--room", "brief").status != 0,
        "the end of the upload",
    )
    watch.one_line(
        c.try_dreamer("pull", sent["short_id"], "--room", "brief"), "temporary upload, until"
    )
    c.dreamer("upload", str(kept), "--ttl", "1h", "--room", "brief")
    pushed = c.dreamer("push", str(kept), "--room", "brief", "--alias", "stays")
    assert pushed["expires_at"] is None
    assert pushed["origin_state"] == "stored"
    assert pushed["uploaded"] > 2000
    refused = c.try_dreamer("upload", str(kept), "--ttl", "1h", "--room", "brief")
    watch.one_line(refused, "for good already")
    watch.one_line(
        c.try_dreamer("upload", str(kept), "--ttl", "90d", "--room", "brief"), "1s to 30d"
    )
