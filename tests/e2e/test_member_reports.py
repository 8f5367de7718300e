"""Members that may not write their room's registry are found in it all the same: who has what,
and what they moved. Real daemons and trackers, the registry at the tracker and in a bucket."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import NO_S3_CREDENTIALS, S3_CREDENTIALS, tracker, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BUCKET = "models"
MIB = 2**20
SIZE = 3 * MIB
# News of what is held goes out after 10 to 30 s, and 30 s after the report before it.
REPORT_S = 120.0
ROOMS = ("lab", "vault")


@pytest.fixture(scope="module")
def stack():
    with ExitStack() as opened:
        yield opened


@pytest.fixture(scope="module")
def pair(team, stack):
    """A keeper, and a plain member without credentials; of two rooms, one of them in a bucket."""
    keeper = team.node("keeper", env=S3_CREDENTIALS)
    plain = team.node("plain", env=NO_S3_CREDENTIALS)
    data = team.root / "tracker"
    place = ("--origin", f"s3://{BUCKET}/vault", "--endpoint-url", team.endpoint)
    with tracker(data) as url:
        keeper.dreamer("room", "create", "lab", "--tracker", url)
        room = keeper.dreamer(
            "room", "create", "vault", "--tracker", url, *place, "--registry", "origin"
        )
    table = {room["room_id"]: {"url": f"s3://{BUCKET}/vault", "endpoint_url": team.endpoint}}
    signs = {**S3_CREDENTIALS, "DREAMER_TRACKER_ORIGINS": json.dumps(table)}
    stack.enter_context(tracker(data, url.removeprefix("http://"), env=signs))
    for name in ROOMS:
        until(
            lambda name=name: Dreamer(keeper.home).rooms()[ROOMS.index(name)].connected,
            "the return to the tracker",
        )
        team.join(plain, keeper, name, "member")
    return keeper, plain


@pytest.fixture(scope="module")
def pulled(team, pair):
    """What the plain member pulled, by room."""
    keeper, plain = pair
    found = {}
    for name in ROOMS:
        pushed = keeper.dreamer("push", str(team.model(f"weights-{name}", SIZE)), "--room", name)
        plain.dreamer("pull", pushed["manifest_id"], "--room", name)
        found[name] = pushed["manifest_id"]
    return found


def cached_on(node, room: str) -> set[str]:
    (model,) = Dreamer(node.home).models(room)
    return {one.name for one in model.cached_on}


def test_a_plain_member_may_change_nothing(pair, pulled, watch):
    _, plain = pair
    for name in ROOMS:
        refused = plain.try_dreamer("alias", "set", "mine", pulled[name], "--room", name)
        watch.one_line(refused, "publisher")


def test_what_a_plain_member_pulled_is_seen_there_by_others(pair, pulled):
    keeper, _ = pair
    for name in ROOMS:
        until(lambda name=name: "plain" in cached_on(keeper, name), f"{name}: cached_on", REPORT_S)
    (model,) = keeper.dreamer("models", "--room", "lab")["models"]
    assert "plain" in [one["name"] for one in model["cached_on"]]


def test_what_it_moved_counts_for_the_room(pair, pulled):
    keeper, plain = pair
    for name in ROOMS:
        until(lambda name=name: "plain" in cached_on(keeper, name), f"{name}: cached_on", REPORT_S)
        own = plain.dreamer("cost", "--month", "--room", name)["this_node"]
        assert own["wanted_bytes"] == SIZE
        found = keeper.dreamer("cost", "--month", "--by", "node", "--room", name)
        (room,) = found["rooms"]
        assert (room["reported"], room["members"]) == (2, 2)
        (theirs,) = (one for one in room["nodes"] if one["name"] == "plain")
        assert theirs["figures"]["wanted_bytes"] == SIZE
        assert theirs["age_s"] < REPORT_S


def test_what_it_removed_is_seen_there_no_more(pair, pulled):
    keeper, plain = pair
    until(lambda: "plain" in cached_on(keeper, "lab"), "cached_on", REPORT_S)
    plain.dreamer("rm", pulled["lab"], "--room", "lab")
    until(lambda: "plain" not in cached_on(keeper, "lab"), "its end", REPORT_S)


def test_a_removed_member_has_nothing_any_more(pair, pulled):
    keeper, plain = pair
    until(lambda: "plain" in cached_on(keeper, "vault"), "cached_on", REPORT_S)
    keeper.dreamer("room", "remove", "vault", plain.dreamer("status")["node_id"])
    until(lambda: "plain" not in cached_on(keeper, "vault"), "its end", REPORT_S)
    (room,) = keeper.dreamer("cost", "--month", "--room", "vault")["rooms"]
    assert room["reported"] == 1
