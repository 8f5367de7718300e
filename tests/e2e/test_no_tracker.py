"""Nodes as real processes and no tracker anywhere: linked by texts alone."""

from __future__ import annotations

import os
import pty
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.daemon.ports import MeetingText, PeerInfo
from dreamer.protocol.errors import RemoteError
from dreamer.simulations.loopback import Node, program, tracker, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MIB = 2**20
WAIT_S = 60.0


class Cave:
    """Makes nodes, and models as directories of random bytes, below one directory."""

    def __init__(self, below) -> None:
        self._below = below
        self.node, self.nodes = below.node, below.nodes

    def model(self, name: str, size: int) -> Path:
        directory = self._below.fresh(self._below.root / "sources" / name)
        (directory / "weights.bin").write_bytes(random.Random(name).randbytes(size))
        return directory


@pytest.fixture(scope="module")
def cave(tmp_path_factory, nodes_below):
    return Cave(nodes_below(tmp_path_factory.mktemp("cave")))


@pytest.fixture(scope="module")
def pair(cave):
    """Two nodes in a room that has no tracker, not linked yet; the first made it."""
    a, b = cave.nodes("A", "B")
    a.dreamer("room", "create", "cave", "--no-tracker")
    b.dreamer("room", "join", a.dreamer("room", "invite", "cave")["token"])
    return a, b


def connect(offerer: Node, answerer: Node, room: str | None = None) -> PeerInfo:
    """Carry the texts between two nodes."""
    ours, theirs = Dreamer(offerer.home), Dreamer(answerer.home)
    answer = theirs.take_meeting_text(ours.offer_link(room).text)
    assert isinstance(answer, MeetingText)
    linked = ours.take_meeting_text(answer.text)
    assert isinstance(linked, PeerInfo)
    return linked


def aliases(node: Node) -> set[str]:
    """Return what a node knows of its rooms; nothing as long as it has no registry to read."""
    try:
        return {alias for model in Dreamer(node.home).models() for alias in model.aliases}
    except RemoteError:
        return set()


def part(one: Node, other: Node) -> None:
    """Restart a node, so that the two are no longer linked."""
    one.process.stop()
    one.start()
    until(lambda: not Dreamer(other.home).peers(), "the lost link to be noticed", WAIT_S)


def test_a_room_without_tracker_is_made_and_joined_offline(pair):
    for node in pair:
        (room,) = node.dreamer("room", "list")["rooms"]
        assert (room["name"], room["trackers"], room["connected"]) == ("cave", [], False)
    assert "none" in pair[0].try_dreamer("room", "list").out


def test_texts_by_command_link_two_nodes_and_a_model_moves(cave, pair):
    a, b = pair
    source = cave.model("first", 3 * MIB + 5)
    pushed = a.dreamer("push", str(source), "--room", "cave", "--alias", "prod", "--tag", "good")

    offer = a.try_dreamer("connect", "--offer")
    assert offer.status == 0, offer.err
    answer = b.try_dreamer("connect", "--answer", offer.out.strip())
    assert answer.status == 0, answer.err
    linked = a.try_dreamer("connect", "--answer", answer.out.strip())
    assert linked.status == 0, linked.err
    assert linked.out.startswith("linked to B (")
    assert linked.out.endswith(") in room cave over webrtc\n")

    until(lambda: "prod" in aliases(b), "the registry", WAIT_S)
    receipt = b.dreamer("pull", pushed["manifest_id"])
    assert receipt["bytes"]["direct"] == 3 * MIB + 5
    got = Path(receipt["path"]) / "weights.bin"
    assert got.read_bytes() == (source / "weights.bin").read_bytes()
    assert b.dreamer("pull", "tag:good")["manifest_id"] == pushed["manifest_id"]


def test_what_both_published_apart_is_known_to_both_once_they_link(cave, pair):
    a, b = pair
    if not Dreamer(a.home).peers():
        connect(a, b)
    part(b, a)
    by_a = a.dreamer("push", str(cave.model("by-a", MIB)), "--room", "cave", "--alias", "from-a")
    by_b = b.dreamer("push", str(cave.model("by-b", MIB)), "--room", "cave", "--alias", "from-b")
    # This time the other one offers.
    connect(b, a)
    for node in pair:
        until(lambda node=node: {"from-a", "from-b"} <= aliases(node), "both models", WAIT_S)
    assert a.dreamer("pull", "from-b")["manifest_id"] == by_b["manifest_id"]
    assert b.dreamer("pull", "from-a")["manifest_id"] == by_a["manifest_id"]


def test_a_terminal_that_waits_is_given_the_answer(pair):
    a, b = pair
    part(b, a)
    argv = [program("dreamer"), "--home", str(a.home), "connect", "--offer"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs) as waiting:
        os.close(theirs)
        with os.fdopen(ours, "r+b", buffering=0) as terminal:
            lines = terminal_lines(terminal)
            offer = next(line for line in lines if line.startswith("DREAMER-OFFER."))
            # The QR code is the last thing before the terminal waits.
            assert any(sum(line.count(block) for block in "█▀▄") > 20 for line in lines)
            answer = Dreamer(b.home).take_meeting_text(offer)
            assert isinstance(answer, MeetingText)
            terminal.write(f"{answer.text}\n".encode())
            said = "".join(lines)
        assert waiting.wait(WAIT_S) == 0
    assert "linked to B" in said


def terminal_lines(terminal) -> Iterator[str]:
    """Yield what a terminal shows, line by line, until the program at it has ended."""
    while True:
        try:
            yield terminal.readline().decode()
        except OSError:
            return


def test_misuse_fails_with_one_clear_line(cave, pair):
    a, b = pair
    if Dreamer(a.home).peers():
        part(b, a)
    offer = Dreamer(a.home).offer_link().text
    answer = Dreamer(b.home).take_meeting_text(offer)
    assert isinstance(answer, MeetingText)
    stranger = cave.node("S")
    cases = [
        (b, offer[:100], "cut short"),
        (b, offer[:60] + ("A" if offer[60] != "A" else "B") + offer[61:], "wrong letter"),
        (b, "hello", "begins with DREAMER-OFFER"),
        (a, offer, "this node's own offer"),
        (b, answer.text, "paste it where the offer was made"),
        (stranger, offer, "join it first"),
    ]
    for node, text, said in cases:
        failed = node.try_dreamer("connect", "--answer", text)
        assert (failed.status, failed.out) == (1, "")
        assert said in failed.err
    stranger.dreamer("room", "join", a.dreamer("room", "invite", "cave")["token"])
    failed = stranger.try_dreamer("connect", "--answer", answer.text)
    assert "this answer is for node" in failed.err
    # None of that spoiled the offer.
    linked = a.dreamer("connect", "--answer", answer.text)["linked"]
    assert linked["name"] == "B"
    again = a.try_dreamer("connect", "--answer", answer.text)
    assert again.status == 1
    assert "already" in again.err


def test_a_third_node_linked_to_one_finds_the_other(cave, pair):
    a, b = pair
    if not Dreamer(a.home).peers():
        connect(a, b)
    c = cave.node("C")
    Dreamer(c.home).join_room(Dreamer(a.home).invite("cave"))
    source = cave.model("at-b", 2 * MIB)
    pushed = b.dreamer("push", str(source), "--room", "cave", "--alias", "at-b")
    connect(c, a)
    until(lambda: "at-b" in aliases(c), "the registry", WAIT_S)
    assert c.dreamer("pull", "at-b")["manifest_id"] == pushed["manifest_id"]


def test_a_removed_node_is_out_for_all_that_hear_of_it(cave):
    f, g, h = cave.nodes(*"FGH")
    f.dreamer("room", "create", "den", "--no-tracker")
    for node in (g, h):
        node.dreamer("room", "join", f.dreamer("room", "invite", "den")["token"])
    connect(f, h)
    until(lambda: Dreamer(h.home).peers(), "the link", WAIT_S)
    removed = f.dreamer("room", "remove", "den", Dreamer(f.home).peers()[0].node_id)
    assert removed["removed"] == Dreamer(h.home).status()["node_id"]
    until(lambda: not Dreamer(h.home).peers(), "the link to end", WAIT_S)
    # G was not linked to anybody at that time, and F restarts before it tells G.
    f.process.stop()
    f.start()
    connect(f, g)
    offer = Dreamer(g.home).offer_link().text
    answer = Dreamer(h.home).take_meeting_text(offer)
    assert isinstance(answer, MeetingText)
    with pytest.raises(RemoteError, match="revoked"):
        Dreamer(g.home).take_meeting_text(answer.text)
    refused = g.try_dreamer("room", "remove", "den", Dreamer(g.home).peers()[0].node_id)
    assert refused.status == 1
    assert "only admins may remove" in refused.err


def test_nodes_whose_tracker_is_gone_link_right_after_their_start(cave, tmp_path_factory):
    d, e = cave.nodes("D", "E")
    with tracker(tmp_path_factory.mktemp("gone") / "tracker") as url:
        d.dreamer("room", "create", "lab", "--tracker", url)
        e.dreamer("room", "join", d.dreamer("room", "invite", "lab")["token"])
        e.process.stop()
        # Published while the other one is away: only the link can tell it of this.
        pushed = d.dreamer("push", str(cave.model("late", MIB)), "--room", "lab", "--alias", "late")
    d.process.stop()
    for node in (d, e):
        node.start()
    connect(d, e)
    until(lambda: "late" in aliases(e), "the registry", WAIT_S)
    assert e.dreamer("pull", "late")["manifest_id"] == pushed["manifest_id"]
