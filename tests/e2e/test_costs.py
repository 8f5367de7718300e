"""What two nodes moved, to the byte, and what it cost them: real daemons, a real S3 server."""

import re

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.protocol.link.direct import HEADER
from dreamer.simulations.loopback import tracker, turn_server, until

pytestmark = pytest.mark.e2e

MIB = 2**20
GB = 10**9
SIZES = (9 * MIB + 5, MIB)
SIZE = sum(SIZES)
WAIT_S = 60.0


def lanes(found) -> dict[str, tuple[int, int]]:
    return {one["lane"]: (one["down_bytes"], one["up_bytes"]) for one in found["lanes"]}


def price(figures) -> float:
    """Work out by the list prices what the figures say was asked of the origin."""
    writes = figures["puts"] + figures["lists"]
    return (
        figures["origin_bytes"] / GB * 0.09
        + figures["gets"] / 1000 * 0.0004
        + writes / 1000 * 0.005
    )


@pytest.fixture(scope="module")
def moved(team):
    """A pushed, B pulled from the origin alone, and A, which had lost its copy, from B alone."""
    a, b = team.nodes("A", "B")
    team.room(a, "depot", origin=True)
    team.join(b, a, "depot")
    pushed = a.dreamer("push", str(team.model("weights", *SIZES)), "--room", "depot")
    objects = f"{team.root.name}-depot/objects/"

    def described() -> int:
        """The bytes of manifest and outboard, as they lie in the bucket."""
        found = team.s3().list_objects_v2(Bucket="models", Prefix=objects)
        return sum(one["Size"] for one in found.get("Contents", []))

    until(lambda: described() > 0, "the end of the upload", WAIT_S)
    a.process.stop()
    from_origin = b.dreamer("pull", pushed["manifest_id"], "--room", "depot")
    a.start()
    a.dreamer("rm", pushed["manifest_id"], "--room", "depot")
    until(lambda: len(Dreamer(a.home).peers("depot")) == 1, "B in sight of A", WAIT_S)
    from_peer = a.dreamer("pull", pushed["manifest_id"], "--room", "depot")
    again = b.dreamer("pull", pushed["manifest_id"], "--room", "depot")
    return a, b, (from_origin, from_peer, again), described()


def test_the_pulls_went_as_the_figures_presume(moved):
    _, _, (from_origin, from_peer, again), _ = moved
    assert from_origin["bytes"]["origin"] == SIZE
    assert from_peer["bytes"]["direct"] == SIZE
    assert again["bytes"]["cache"] == SIZE


def test_the_node_that_pulled_from_the_origin_has_paid_for_every_byte(moved):
    _, b, _, described = moved
    found = b.dreamer("cost", "--month")
    figures = found["this_node"]
    # The files, and what describes them.
    assert figures["origin_bytes"] == SIZE + described
    assert (figures["uses"], figures["wanted_bytes"]) == (2, 2 * SIZE)
    assert (figures["peer_bytes"], figures["cache_bytes"]) == (0, SIZE)
    assert figures["gets"] >= 6, "a HEAD and a GET for each object, a GET for each file"
    assert (figures["puts"], figures["lists"], figures["uploaded_bytes"]) == (0, 0, 0)
    # Each of 11 blocks goes over a direct connection behind a header.
    given = lanes(found).pop("direct")
    assert given == (0, SIZE + 11 * HEADER.size)
    assert lanes(found) == {
        "cache": (SIZE, 0),
        "direct": given,
        "origin": (SIZE + described, 0),
    }
    assert figures["cost"] == pytest.approx(price(figures), rel=1e-12)
    # Twice the whole model, by GETs of 8 MiB.
    assert figures["without_both"] == pytest.approx(2 * SIZE / GB * 0.09 + 3 / 1000 * 0.0004)


def test_the_node_that_pulled_from_its_peer_has_paid_for_its_push_alone(moved):
    a, _, _, described = moved
    found = a.dreamer("cost", "--month", "--room", "depot")
    figures = found["this_node"]
    assert (figures["uses"], figures["peer_bytes"], figures["origin_bytes"]) == (1, SIZE, 0)
    assert figures["uploaded_bytes"] >= SIZE + described
    assert figures["puts"] >= 4, "two files, manifest and outboard"
    assert figures["cost"] == pytest.approx(price(figures), rel=1e-12)
    extra = SIZE / GB * 0.09 + 2 / 1000 * 0.0004
    assert figures["without_peers"] - figures["cost"] == pytest.approx(extra)
    (model,) = (one for one in found["models"] if one["manifest_id"])
    assert (model["name"], model["figures"]["peer_bytes"]) == ("weights", SIZE)


def test_the_metrics_say_the_same(moved):
    _, b, _, described = moved
    text = Dreamer(b.home)._caller.request("GET", "/status")
    assert text["bytes_by_lane"] == {"cache": SIZE, "origin": SIZE + described}


def test_a_killed_node_has_what_was_written_and_the_room_the_sum_of_both(moved):
    a, b, _, described = moved
    before = b.dreamer("cost", "--month")["this_node"]
    # Asking has written it all down.
    b.process.kill()
    # A stops as it should, and says what it moved.
    figures_a = a.dreamer("cost", "--month")["this_node"]
    a.process.stop()
    b.start()
    assert b.dreamer("cost", "--month")["this_node"] == before
    found = b.dreamer("cost", "--month", "--by", "node")
    (room,) = found["rooms"]
    assert (room["reported"], room["members"]) == (2, 2)
    nodes = {one["name"]: one for one in room["nodes"]}
    assert nodes["B"]["age_s"] is None
    assert 0 <= nodes["A"]["age_s"] < 600
    assert nodes["A"]["figures"] == pytest.approx(figures_a)
    # A's last report also says what lies on its disk, though it is off now.
    (model,) = b.dreamer("models", "--room", "depot")["models"]
    cached = {one["node_id"]: one["serves"] for one in model["cached_on"]}
    assert cached[nodes["A"]["node_id"]] is False, "members can't have a directory of files run"
    total = room["figures"]
    assert total["wanted_bytes"] == 3 * SIZE
    assert (total["origin_bytes"], total["peer_bytes"]) == (SIZE + described, SIZE)
    assert total["cost"] == pytest.approx(before["cost"] + figures_a["cost"])
    assert total["saved"] == pytest.approx(total["without_both"] - total["cost"])


def coturn_bytes(log) -> int:
    """Return what coturn counted from and to its clients, over all allocations."""
    usage = r"session \d+: usage: realm=\S+ username=\S+ rp=\d+, rb=(\d+), sp=\d+, sb=(\d+)"
    return sum(int(got) + int(sent) for got, sent in re.findall(usage, log.read_text()))


@pytest.mark.interop
def test_over_both_ends_of_a_link_as_much_is_paid_for_as_the_turn_server_relayed(team, program):
    secret = team.root / "turn-secret"
    secret.touch(mode=0o600)
    secret.write_text("s3cret\n")
    log = team.root / "coturn.log"
    only = {"DREAMER_NETWORK_RELAY": "only", "DREAMER_COST_TURN_GB": "0.4"}
    with turn_server(program("turnserver"), log, "s3cret") as uri:
        lending = {
            "DREAMER_TRACKER_TURN_URLS": uri,
            "DREAMER_TRACKER_TURN_SECRET_FILE": str(secret),
        }
        with tracker(team.root / "tracker", env=lending) as url:
            team.tracker = url
            a, b = team.nodes("R", "S", env=only)
            team.room(a, "relayed")
            team.join(b, a, "relayed")
            source = team.model("relayed", *SIZES)
            a.dreamer("push", str(source), "--room", "relayed", "--alias", "it")
            assert b.dreamer("pull", "it")["bytes"]["relay"] == SIZE
            # Its last figures are in the log once the allocations have ended.
            b.process.stop()
            found = {a: a.dreamer("cost")["this_node"]}
            a.process.stop()
            b.start()
            found[b] = b.dreamer("cost")["this_node"]
            b.process.stop()
    paid = sum(figures["relay_paid_bytes"] for figures in found.values())
    relayed = coturn_bytes(log)
    print(f"coturn relayed {relayed} bytes, the two nodes have {paid} to pay for")
    # Each had an allocation, so the blocks passed two of them. What coturn counts beside datagrams
    # is its own talk with its clients.
    assert paid == pytest.approx(relayed, rel=0.03)
    assert 2 * SIZE < paid < 2.4 * SIZE
    for figures in found.values():
        assert figures["turn_cost"] == pytest.approx(figures["relay_paid_bytes"] / GB * 0.4)
        assert figures["cost"] == pytest.approx(figures["turn_cost"])
