"""A room with two trackers, which are killed and come back: its nodes hardly notice."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import Node, Process, program, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

MIB = 2**20
WAIT_S = 90.0
ROLES = ("member", "publisher")
ALONE = {"DREAMER_NETWORK_MESH_LINKS": "0"}
"""A node that calls nobody for the mere sake of it: whom it is linked with is then known."""


class TrackerProcess:
    """A tracker that keeps its port and its data over being killed."""

    def __init__(self, root, name: str) -> None:
        self._root = root
        self._name = name
        self._listen = "127.0.0.1:0"
        self._process: Process | None = None
        self.url = ""

    def start(self) -> None:
        data = self._root / self._name
        argv = [program("dreamer-tracker"), "--listen", self._listen, "--data", str(data)]
        self._process = Process(argv, self._root / f"{self._name}.log")
        self.url = self._process.start(r"(?m)^(https?://\S+)$").group(1)
        self._listen = self.url.removeprefix("http://")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()


class Town:
    """Two trackers and the nodes A, B and C; B has links to both others, they none to another."""

    def __init__(self, team, stack: ExitStack) -> None:
        self.team = team
        self.trackers = [TrackerProcess(team.root, name) for name in ("one", "two")]
        for tracker in self.trackers:
            stack.callback(tracker.kill)
            tracker.start()
        self.a, self.b, self.c = (
            team.node("A", env=ALONE),
            team.node("B"),
            team.node("C", env=ALONE),
        )
        options = [word for one in self.trackers for word in ("--tracker", one.url)]
        self.a.dreamer("room", "create", "lab", *options)
        for node in (self.b, self.c):
            team.join(node, self.a, "lab", *ROLES)
        until(lambda: self.linked(self.b) == ["A", "C"], "B's links", WAIT_S)

    def linked(self, node: Node) -> list[str]:
        return sorted(peer.name for peer in Dreamer(node.home).peers() if peer.linked)

    def connected(self, node: Node) -> list[bool]:
        (room,) = Dreamer(node.home).rooms()
        return [state.connected for state in room.tracker_states]

    def up(self, *wanted: bool) -> None:
        """Wait until every node is connected to these trackers and to no others."""
        nodes = (self.a, self.b, self.c)

        def settled() -> bool:
            return all(self.connected(node) == list(wanted) for node in nodes)

        until(settled, f"everybody's connections being {wanted}", WAIT_S)

    def refused(self, node: Node) -> bool:
        (room,) = Dreamer(node.home).rooms()
        return all("revoked" in (state.error or "") for state in room.tracker_states)

    def push(self, node: Node, name: str) -> str:
        source = self.team.model(name, MIB)
        return node.dreamer("push", str(source), "--room", "lab")["short_id"]

    def same(self, watch, pulled: dict, name: str) -> bool:
        source = self.team.root / "sources" / name
        return watch.content(source) == watch.content(Path(pulled["path"]))


@pytest.fixture(scope="module")
def town(team):
    with ExitStack() as stack:
        yield Town(team, stack)


@pytest.fixture
def all_up(town):
    """The town as it is when nothing is wrong, before and after a test."""
    town.up(True, True)
    yield town
    for tracker in town.trackers:
        tracker.kill()
        tracker.start()
    town.up(True, True)


def test_newcomer_joins_and_pulls_at_the_second_tracker_while_the_first_is_dead(all_up, watch):
    town = all_up
    early = town.push(town.c, "early")
    until(lambda: Dreamer(town.a.home).models()[0].short_id == early, "the registry", WAIT_S)
    town.trackers[0].kill()
    town.up(False, True)
    newcomer = town.team.node("D", env=ALONE)
    town.team.join(newcomer, town.a, "lab", *ROLES)
    pulled = newcomer.dreamer("pull", early)
    assert town.same(watch, pulled, "early")
    # B, which keeps up links of its own accord, may have called it meanwhile; A doesn't.
    assert "C" in town.linked(newcomer)
    assert "A" not in town.linked(newcomer)
    answer = town.a.try_dreamer("tag", "add", early, "good")
    assert "first tracker" in watch.one_line(answer, town.trackers[0].url)


def test_without_any_tracker_links_live_and_new_ones_come_up_over_a_neighbour(all_up, watch):
    town = all_up
    late = town.push(town.c, "late")
    until(lambda: Dreamer(town.a.home).models()[0].short_id == late, "the registry", WAIT_S)
    assert "C" not in town.linked(town.a)
    for tracker in town.trackers:
        tracker.kill()
    town.up(False, False)
    assert "A" in town.linked(town.b)
    assert "C" in {peer.name for peer in Dreamer(town.a.home).peers()}
    pulled = town.a.dreamer("pull", late)
    assert town.same(watch, pulled, "late")
    assert town.linked(town.a) == ["B", "C"]


def test_member_removed_while_all_trackers_are_dead_is_out_at_once_and_when_they_return(all_up):
    town = all_up
    removed = town.team.node("F")
    town.team.join(removed, town.a, "lab")
    until(lambda: town.linked(removed), "F's links", WAIT_S)
    for tracker in town.trackers:
        tracker.kill()
    town.up(False, False)
    town.a.dreamer("room", "remove", "lab", removed.dreamer("status")["node_id"])
    until(lambda: not town.linked(removed), "everybody's parting from F", WAIT_S)
    for tracker in town.trackers:
        tracker.start()
    town.up(True, True)
    until(lambda: town.refused(removed), "F being refused at both", WAIT_S)


def test_member_removed_while_a_tracker_was_dead_is_refused_there_too(all_up, watch):
    town = all_up
    removed = town.team.node("E", env=ALONE)
    town.team.join(removed, town.a, "lab")
    town.trackers[1].kill()
    town.up(True, False)
    town.a.dreamer("room", "remove", "lab", removed.dreamer("status")["node_id"])
    town.trackers[1].start()
    town.up(True, True)
    until(lambda: town.refused(removed), "E being refused at both", WAIT_S)
