"""Rooms that keep their registry in their bucket: with and without trackers and credentials."""

from __future__ import annotations

import json

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import (
    NO_S3_CREDENTIALS,
    S3_CREDENTIALS,
    Process,
    tracker,
    until,
)

pytestmark = pytest.mark.e2e

BUCKET = "models"
MIB = 2**20
WAIT_S = 60.0


def place(team, name: str) -> tuple[str, ...]:
    origin = ("--origin", f"s3://{BUCKET}/{name}", "--endpoint-url", team.endpoint)
    return (*origin, "--registry", "origin")


def meanings(node, room: str) -> dict[str, str]:
    models = Dreamer(node.home).models(room)
    return {alias: model.manifest_id for model in models for alias in model.aliases}


def aliases(node, room: str) -> set[str]:
    return set(meanings(node, room))


def stored(team, name: str, room_id: str) -> dict:
    key = f"{name}/rooms/{room_id}/manifest.json"
    return json.loads(team.s3().get_object(Bucket=BUCKET, Key=key)["Body"].read())


def test_members_of_a_room_without_trackers_share_the_registry_in_the_bucket(team, watch):
    a, b = team.nodes("A", "B", env=S3_CREDENTIALS)
    room = a.dreamer("room", "create", "cave", "--no-tracker", *place(team, "cave"))
    assert room["registry"] == "origin"
    team.join(b, a, "cave")
    # Nobody has linked them: all that they share is the bucket.
    a.dreamer("push", str(team.model("one", MIB)), "--room", "cave", "--alias", "first")
    b.dreamer("push", str(team.model("two", MIB)), "--room", "cave", "--alias", "second")
    assert aliases(a, "cave") == aliases(b, "cave") == {"first", "second"}
    pulled = b.dreamer("pull", "first", "--room", "cave", "--output", str(team.root / "got"))
    assert pulled["bytes"]["origin"] == MIB
    assert set(stored(team, "cave", room["room_id"])["aliases"]) == {"first", "second"}
    listed = team.s3().list_objects_v2(Bucket=BUCKET, Prefix="cave/rooms/")["Contents"]
    assert [one["Key"].rpartition("/")[2] for one in listed] == ["manifest.json"]


def test_old_registry_put_back_into_the_bucket_fools_nobody_who_has_seen_more(team, watch):
    a = team.node("C", env=S3_CREDENTIALS)
    room = a.dreamer("room", "create", "old", "--no-tracker", *place(team, "old"))
    key = {"Bucket": BUCKET, "Key": f"old/rooms/{room['room_id']}/manifest.json"}
    a.dreamer("push", str(team.model("three", 1000)), "--room", "old", "--alias", "prod")
    before = team.s3().get_object(**key)["Body"].read()
    a.dreamer("push", str(team.model("four", 1000)), "--room", "old", "--alias", "prod")
    meant = meanings(a, "old")
    a.process.stop()
    team.s3().put_object(**key, Body=before)
    a.start()
    assert meanings(a, "old") == meant
    assert "old registry" in a.process.log.read_text()
    # The next change puts things right, for all.
    a.dreamer("alias", "set", "again", "prod", "--room", "old")
    assert set(stored(team, "old", room["room_id"])["aliases"]) == {"prod", "again"}
    assert len(stored(team, "old", room["room_id"])["aliases"]["prod"]) == 2


def test_nodes_without_credentials_publish_by_urls_that_the_tracker_signs(team, watch):
    a = team.node("D", env=S3_CREDENTIALS)
    b, c = team.nodes("E", "F", env=NO_S3_CREDENTIALS)
    data = team.root / "tracker"
    with tracker(data) as url:
        listen = url.removeprefix("http://")
        room = a.dreamer("room", "create", "lab", "--tracker", url, *place(team, "lab"))
    table = {room["room_id"]: {"url": f"s3://{BUCKET}/lab", "endpoint_url": team.endpoint}}
    signs = {**S3_CREDENTIALS, "DREAMER_TRACKER_ORIGINS": json.dumps(table)}
    with tracker(data, listen, env=signs):
        until(lambda: Dreamer(a.home).rooms()[0].connected, "the return to the tracker", WAIT_S)
        team.join(b, a, "lab", "member", "publisher")
        team.join(c, a, "lab", "member")
        b.dreamer("push", str(team.model("five", MIB)), "--room", "lab", "--alias", "prod")
        assert aliases(a, "lab") == aliases(c, "lab") == {"prod"}
        refused = c.try_dreamer("alias", "set", "mine", "prod", "--room", "lab")
        watch.one_line(refused, "publisher")
        for node in (a, b, c):
            assert "X-Amz" not in node.process.log.read_text()
    assert "X-Amz" not in (team.root / "tracker.log").read_text()
    # With the tracker gone nobody signs: what was seen last is what there is.
    assert aliases(c, "lab") == {"prod"}
    refused = b.try_dreamer("alias", "set", "mine", "prod", "--room", "lab")
    watch.one_line(refused, "kept in its bucket", "nothing in it can be changed")


def test_room_is_as_it_was_last_seen_while_the_bucket_is_away(team, watch):
    a = team.node("G", env=S3_CREDENTIALS)
    a.dreamer("room", "create", "away", "--no-tracker", *place(team, "away"))
    a.dreamer("push", str(team.model("six", 1000)), "--room", "away", "--alias", "prod")
    with watch.origin_frozen():
        assert aliases(a, "away") == {"prod"}
    a.dreamer("alias", "set", "next", "prod", "--room", "away")
    assert aliases(a, "away") == {"prod", "next"}


@pytest.mark.interop
def test_store_that_ignores_conditions_is_refused_when_the_room_is_made(team, watch, program):
    team.fresh(team.root / "rclone" / BUCKET)
    keys = f"{S3_CREDENTIALS['AWS_ACCESS_KEY_ID']},{S3_CREDENTIALS['AWS_SECRET_ACCESS_KEY']}"
    argv = [program("rclone"), "serve", "s3", str(team.root / "rclone"), "--addr", "127.0.0.1:0"]
    a, log = team.node("H", env=S3_CREDENTIALS), team.root / "rclone.log"
    config = {"RCLONE_CONFIG": str(team.root / "none")}
    with Process([*argv, "--auth-key", keys], log, config) as server:
        url = server.start(r"Starting s3 server on \[(http://\S+?)/?\]").group(1)
        origin = ("--origin", f"s3://{BUCKET}/lab", "--endpoint-url", url)
        create = ("room", "create", "lab", "--tracker", team.tracker, *origin)
        watch.one_line(a.try_dreamer(*create, "--registry", "origin"), "--registry tracker")
        assert Dreamer(a.home).rooms() == []
        assert [path for path in (team.root / "rclone").rglob("*") if path.is_file()] == []
        # The way out that the message names.
        assert a.dreamer(*create, "--registry", "tracker")["registry"] == "tracker"
