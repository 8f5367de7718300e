"""Pulls over direct connections between real daemons."""

from __future__ import annotations

import json
import threading

import psutil
import pytest

from dreamer.simulations.loopback import LoopbackError

pytestmark = pytest.mark.e2e

MIB = 2**20
SIZE = 48 * MIB
WAIT_S = 150.0


@pytest.fixture(scope="module")
def seeded(team):
    """Return a node that holds a model in a room of its own, and the model's id and files."""
    node = team.node("seeded")
    team.room(node, "lan")
    model = team.model("weights", SIZE, 77)
    pushed = node.dreamer("push", str(model), "--room", "lan")
    return node, pushed["manifest_id"], model


def pulled(node, manifest_id):
    receipt = node.dreamer("pull", manifest_id)
    return receipt, {lane for lane, size in receipt["bytes"].items() if size}


def lane_to(node, name):
    peers = node.dreamer("peers")["peers"]
    return {peer["name"]: peer["lane"] for peer in peers}[name]


@pytest.mark.parametrize("listen", ["[::]:0", "127.0.0.1:0", "[::1]:0"])
def test_pull_goes_over_a_direct_connection(team, seeded, watch, listen) -> None:
    giver, manifest_id, model = seeded
    name = f"taker{len(listen)}{listen[1]}"
    taker = team.member(name, giver, room="lan", env={"DREAMER_NETWORK_DIRECT_LISTEN": listen})
    receipt, lanes = pulled(taker, manifest_id)
    assert lanes == {"direct"}
    assert receipt["bytes"]["direct"] == SIZE + 77
    assert receipt["lane_seconds"]["direct"] > 0
    assert watch.content(team.root / receipt["path"]) == watch.content(model)
    assert lane_to(taker, "seeded") == "direct"
    assert lane_to(giver, name) == "direct"
    assert watch.bytes_down(taker) >= SIZE


@pytest.mark.parametrize("end", ["taker", "giver"])
def test_switched_off_at_one_end_blocks_come_over_webrtc(team, seeded, end) -> None:
    giver, manifest_id, _ = seeded
    off = {"DREAMER_NETWORK_DIRECT_LISTEN": ""}
    if end == "giver":
        mute = team.member("mute", giver, room="lan", env=off)
        pulled(mute, manifest_id)
        team.room(mute, "muted")
        mute.dreamer("push", str(team.model("small", MIB)), "--room", "muted")
        manifest_id = mute.dreamer("models", "--room", "muted")["models"][0]["manifest_id"]
        taker = team.member("taker-of-mute", mute, room="muted")
    else:
        taker = team.member("mute-taker", giver, room="lan", env=off)
    _, lanes = pulled(taker, manifest_id)
    assert lanes == {"webrtc"}


def test_node_that_may_only_relay_tells_nobody_its_addresses(team, seeded) -> None:
    giver, _, _ = seeded
    shy = team.member("shy", giver, room="lan", env={"DREAMER_NETWORK_RELAY": "only"})
    listening = [
        found
        for found in psutil.Process(shy.process.pid).net_connections("tcp")
        if found.status == psutil.CONN_LISTEN
    ]
    assert listening == []


def test_port_that_is_taken_is_a_clear_error(team, seeded) -> None:
    giver, _, _ = seeded
    port = next(
        found.laddr.port
        for found in psutil.Process(giver.process.pid).net_connections("tcp")
        if found.status == psutil.CONN_LISTEN
    )
    with pytest.raises(LoopbackError, match=r"network\.direct_listen"):
        team.node("late", env={"DREAMER_NETWORK_DIRECT_LISTEN": f"[::]:{port}"})


def test_giver_that_dies_and_comes_back_costs_no_verified_block(team, seeded, watch) -> None:
    giver, _, _ = seeded
    big = team.model("big", 256 * MIB)
    pushed = giver.dreamer("push", str(big), "--room", "lan")
    taker = team.member("patient", giver, room="lan")
    pulling = taker.begin("pull", pushed["manifest_id"], "--json")
    with pulling:
        watch.pulling(taker, 16 * MIB)
        giver.process.kill()
        giver.start()
        out, err = pulling.communicate(timeout=WAIT_S)
    if pulling.returncode:
        # It may have given up; what is on disk stays either way.
        out = taker.try_dreamer("pull", pushed["manifest_id"], "--json").out
    receipt = json.loads(out.splitlines()[-1] if "\n{" in out else out)
    assert watch.content(team.root / receipt["path"]) == watch.content(big), err


def test_two_pulls_at_once_share_the_connection(team, seeded, watch) -> None:
    giver, manifest_id, _ = seeded
    taker = team.member("double", giver, room="lan")
    other = team.model("other", SIZE)
    second = giver.dreamer("push", str(other), "--room", "lan")["manifest_id"]
    found: list[set[str]] = []
    threads = [
        threading.Thread(target=lambda m=one: found.append(pulled(taker, m)[1]))
        for one in (manifest_id, second)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    # On a machine with much else to do, the first blocks may have come before it was up.
    assert len(found) == 2
    assert all("direct" in lanes for lanes in found)
