"""Relays with a budget, really run: coturn, a tracker that lends it, and nodes that use no more."""

from __future__ import annotations

import http.client
import re
import sqlite3
import time
from contextlib import closing

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.daemon.rest.local_socket import connect
from dreamer.protocol.limits import RELAY_RESERVE_BYTES
from dreamer.protocol.link import meeting
from dreamer.protocol.link.description import CandidateKind
from dreamer.simulations.loopback import tracker, turn_server, until

pytestmark = [pytest.mark.e2e, pytest.mark.interop, pytest.mark.timeout(300)]

MIB = 2**20
BUDGET_MIB = 6


def env(**settings: object) -> dict[str, str]:
    """Return the environment of a node that may use relays only."""
    return {
        "DREAMER_NETWORK_RELAY": "only",
        **{f"DREAMER_NETWORK_{name.upper()}": str(value) for name, value in settings.items()},
    }


@pytest.fixture(scope="module")
def coturn(program, team):
    secret = team.root / "turn-secret"
    secret.touch(mode=0o600)
    secret.write_text("s3cret\n")
    log = team.root / "coturn.log"
    with turn_server(program("turnserver"), log, "s3cret") as uri:
        lending = {
            "DREAMER_TRACKER_TURN_URLS": uri,
            "DREAMER_TRACKER_TURN_SECRET_FILE": str(secret),
        }
        with tracker(team.root / "tracker", env=lending) as url:
            team.tracker = url
            yield log


def relay_status(node) -> dict:
    return Dreamer(node.home).status()["relay"]


def metrics(node) -> dict[str, float]:
    """Return every sample that a node tells Prometheus."""
    with closing(http.client.HTTPConnection("dreamerd")) as connection:
        connection.sock = connect(node.home / "run" / "dreamerd.sock", 20)
        connection.request("GET", "/metrics")
        with connection.getresponse() as answer:
            lines = answer.read().decode().splitlines()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def month_bytes(node) -> int:
    """Return what passed with the only peer this month."""
    (peer,) = relay_status(node)["peers"]
    return peer["month_bytes"]


def coturn_bytes(log) -> dict[str, int]:
    """Return what coturn counted from and to its client, by allocation, as far as it has said."""
    sums: dict[str, int] = {}
    usage = r"session (\d+): usage: realm=\S+ username=\S+ rp=\d+, rb=(\d+), sp=\d+, sb=(\d+)"
    for session, received, sent in re.findall(usage, log.read_text()):
        sums[session] = sums.get(session, 0) + int(received) + int(sent)
    return sums


def test_relay_over_budget_keeps_control_channel_and_blocks_come_from_the_origin(
    team, watch, coturn
):
    few = env(relay_budget_mib_per_peer=BUDGET_MIB)
    a, b = team.nodes("A", "B", env=few)
    team.room(a, "spent", origin=True)
    team.join(b, a, "spent")
    source = team.model("large", 14 * MIB)
    a.dreamer("push", str(source), "--room", "spent", "--alias", "large")
    pulled = b.dreamer("pull", "large", "--output", str(team.root / "large"))
    assert watch.content(team.root / "large") == watch.content(source)
    moved = pulled["bytes"]
    assert (moved["direct"], moved["webrtc"]) == (0, 0)
    assert 3 * MIB <= moved["relay"] < BUDGET_MIB * MIB
    assert moved["origin"] == 14 * MIB - moved["relay"]
    # Both ends count both ways, the same bytes, and neither passed its budget.
    for node in (a, b):
        (peer,) = Dreamer(node.home).peers()
        assert (peer.linked, peer.lane, peer.spent) == (True, "relay", True)
        counted = month_bytes(node)
        assert BUDGET_MIB * MIB - 3 * RELAY_RESERVE_BYTES < counted <= BUDGET_MIB * MIB
        (row,) = relay_status(node)["peers"]
        assert (row["relayed"], row["spent"]) == (True, True)
        assert row["left_bytes"] == BUDGET_MIB * MIB - row["month_bytes"]
    before, said = month_bytes(b), metrics(b)
    assert said["dreamer_links_relay_spent"] == 1
    assert said['dreamer_relayed_bytes{period="month"}'] >= before
    assert said['dreamer_pulled_bytes_total{lane="relay"}'] == moved["relay"]
    relayed = max(coturn_bytes(coturn).values())
    assert relayed <= BUDGET_MIB * MIB
    print(
        f"budget {BUDGET_MIB * MIB}: A counted {month_bytes(a)}, B {month_bytes(b)}, "
        f"coturn said {relayed} so far; {moved['relay']} of it blocks"
    )
    # What is small still goes over the link: the manifest of a model that B has never seen.
    more = team.model("more", 2 * MIB)
    a.dreamer("push", str(more), "--room", "spent", "--alias", "more")
    before = month_bytes(b)
    again = b.dreamer("pull", "more", "--output", str(team.root / "more"))
    assert (again["bytes"]["relay"], again["bytes"]["origin"]) == (0, 2 * MIB)
    assert month_bytes(b) - before < MIB
    # A restart forgets nothing, a kill -9 neither.
    before = month_bytes(b)
    b.process.kill()
    b.start()
    assert month_bytes(b) >= before
    third = team.model("third", 2 * MIB)
    a.dreamer("push", str(third), "--room", "spent", "--alias", "third")
    last = b.dreamer("pull", "third", "--output", str(team.root / "third"))
    assert (last["bytes"]["relay"], last["bytes"]["origin"]) == (0, 2 * MIB)
    # A larger budget counts from the next start on.
    for node in (a, b):
        node.process.stop()
        node.process.env["DREAMER_NETWORK_RELAY_BUDGET_MIB_PER_PEER"] = "100"
        node.start()
    fourth = team.model("fourth", 2 * MIB)
    a.dreamer("push", str(fourth), "--room", "spent", "--alias", "fourth")
    fresh = b.dreamer("pull", "fourth", "--output", str(team.root / "fourth"))
    assert fresh["bytes"]["relay"] == 2 * MIB


def test_blocks_come_from_a_third_node_when_a_peer_says_that_its_relay_is_spent(
    team, watch, coturn
):
    a = team.node("D", env=env(relay_budget_mib_per_peer=3))
    b, c = team.nodes("E", "F", env=env())
    team.room(a, "three")
    for node in (b, c):
        team.join(node, a, "three")
    source = team.model("shared", 12 * MIB)
    for node in (a, c):
        node.dreamer("push", str(source), "--room", "three", "--alias", "shared")
    pulled = b.dreamer("pull", "shared", "--output", str(team.root / "shared"))
    assert watch.content(team.root / "shared") == watch.content(source)
    assert pulled["bytes"]["relay"] == 12 * MIB
    ids = {node: Dreamer(node.home).status()["node_id"] for node in (a, c)}
    assert pulled["peers"].get(ids[a], 0) <= 3 * MIB
    assert pulled["peers"][ids[c]] >= 9 * MIB
    spent = {peer.name: peer.spent for peer in Dreamer(b.home).peers()}
    assert spent == {"D": pulled["peers"].get(ids[a], 0) > 0, "F": False}
    relayed = {row["name"]: row["month_bytes"] for row in relay_status(a)["peers"]}
    assert relayed["E"] <= 3 * MIB


def test_node_that_uses_no_relays_is_not_linked_to_one_that_uses_nothing_else(team, watch, coturn):
    never = {**env(direct_listen=""), "DREAMER_NETWORK_RELAY": "never"}
    a, b = team.node("P", env=env()), team.node("Q", env=never)
    team.room(a, "apart", origin=True)
    team.join(b, a, "apart")
    source = team.model("apart", 2 * MIB)
    a.dreamer("push", str(source), "--room", "apart", "--alias", "apart")
    pulled = b.dreamer("pull", "apart", "--output", str(team.root / "apart"))
    assert watch.content(team.root / "apart") == watch.content(source)
    assert pulled["bytes"]["origin"] == 2 * MIB
    (peer,) = Dreamer(b.home).peers()
    assert (peer.present, peer.linked) == (True, False)
    assert relay_status(b)["peers"] == []


def test_kill_9_in_mid_pull_loses_a_second_of_the_count_at_most(team, coturn):
    a, b = team.nodes("K", "L", env=env())
    team.room(a, "killed")
    team.join(b, a, "killed")
    source = team.model("long", 60 * MIB)
    a.dreamer("push", str(source), "--room", "killed", "--alias", "long")
    pull = b.begin("pull", "long", "--output", str(team.root / "long"))
    until(lambda: relay_status(b)["month_bytes"] > 2 * MIB, "the first blocks")
    began, before = time.monotonic(), month_bytes(a)
    until(lambda: month_bytes(a) > before + 10 * MIB, "more blocks")
    b.process.kill()
    a_second = (month_bytes(a) - before) / (time.monotonic() - began)
    pull.communicate(timeout=60)
    with sqlite3.connect(b.home / "state.db") as record:
        (recorded,) = record.execute("SELECT sum(size_bytes) FROM relayed").fetchone()
    record.close()
    assert month_bytes(a) - recorded <= 1.5 * a_second
    b.start()
    assert month_bytes(b) >= recorded


def test_connect_texts_of_nodes_that_use_relays_only_name_relays_only(team, coturn):
    # No links of their own accord: those who are linked need no texts.
    quiet = env(mesh_links=0)
    a, b = team.nodes("M", "N", env=quiet)
    team.room(a, "texts")
    team.join(b, a, "texts")
    offer = Dreamer(a.home).offer_link("texts").text
    answer = Dreamer(b.home).take_meeting_text(offer).text
    for text in (offer, answer):
        candidates = meeting.decode(text).description.candidates
        assert {each.kind for each in candidates} == {CandidateKind.RELAYED}
    assert Dreamer(a.home).take_meeting_text(answer).lane == "relay"
