"""Two nodes that may only use relays link through a real one that their tracker lends them."""

from __future__ import annotations

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import tracker, turn_server

pytestmark = [pytest.mark.e2e, pytest.mark.interop]

MIB = 2**20
ONLY_RELAYS = {"DREAMER_NETWORK_RELAY": "only"}


@pytest.fixture
def lending_tracker(program, team):
    secret = team.root / "turn-secret"
    secret.touch(mode=0o600)
    secret.write_text("s3cret\n")
    log = team.root / "coturn.log"
    with turn_server(program("turnserver"), log, "s3cret") as uri:
        env = {
            "DREAMER_TRACKER_TURN_URLS": uri,
            "DREAMER_TRACKER_TURN_SECRET_FILE": str(secret),
        }
        with tracker(team.root / "tracker", env=env) as url:
            yield url, log


def test_nodes_link_through_the_relay_that_their_tracker_lends(team, watch, lending_tracker):
    url, log = lending_tracker
    a, b = team.nodes("A", "B", env=ONLY_RELAYS)
    a.dreamer("room", "create", "relayed", "--tracker", url)
    team.join(b, a, "relayed")
    source = team.model("small", MIB)
    a.dreamer("push", str(source), "--room", "relayed", "--alias", "small")
    pulled = b.dreamer("pull", "small", "--output", str(team.root / "got"))
    assert watch.content(team.root / "got") == watch.content(source)
    assert pulled["bytes"]["relay"] == MIB
    (peer,) = Dreamer(b.home).peers()
    assert peer.lane == "relay"
    # Both nodes stand in the relay's log by their short ids.
    said = log.read_text()
    for node in (a, b):
        assert f":{Dreamer(node.home).status()['node_id'][:8]}>" in said
