"""Pulls that can't go on for now: they say why, wait, and go on by themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import Node, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MIB = 2**20
MODEL = 40 * MIB
WAIT_S = 60.0

needs_root = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount disks"),
]


@pytest.fixture(scope="module")
def large(team, lab):
    source = team.model("large", MODEL - 3 * MIB, 3 * MIB)
    lab[0].dreamer("push", str(source), "--room", "lab", "--alias", "large")
    return source


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A file system of 80 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@contextmanager
def member_on(team, keeper: Node, disk: Path, name: str) -> Iterator[Node]:
    """Run a member whose models are on ``disk``; slow enough to be caught half-way."""
    env = {"MODELS_DIR": str(disk / "models"), "DREAMER_NETWORK_DIRECT_LISTEN": ""}
    node = team.member(name, keeper, env=env)
    try:
        yield node
    finally:
        node.process.stop()


def shown(node: Node) -> dict:
    """Return the progress of the pull under way as ``dreamer status`` has it."""
    pulls = Dreamer(node.home).status()["pulls"]
    return pulls[0]["progress"] if pulls else {"phase": "", "note": "", "done": 0}


def paused(node: Node, words: str) -> None:
    """Wait until a node says that its pull is paused, and why."""

    def says() -> bool:
        progress = shown(node)
        return progress["phase"] == "paused" and words in progress["note"]

    until(says, f"a pause because of {words!r}", WAIT_S)


def finish(pull) -> tuple[dict, str]:
    out, err = pull.communicate(timeout=WAIT_S)
    assert pull.returncode == 0, out + err
    return json.loads(out), err


class TestOnSmallDisks:
    """On disks of their own, which only root can mount."""

    pytestmark = needs_root

    def test_full_disk_is_waited_for(self, team, lab, large, disk, watch):
        with (disk / "others").open("wb") as other:
            os.posix_fallocate(other.fileno(), 0, 50 * MIB)
        with member_on(team, lab[0], disk, "full") as node:
            with node.begin("pull", "large", "--room", "lab", "--json") as pull:
                paused(node, "are needed")
                assert "make room" in shown(node)["note"]
                assert "paused" in node.try_dreamer("status").out
                # Ctrl-C ends a paused pull as any other.
                pull.send_signal(signal.SIGINT)
                out, err = pull.communicate(timeout=WAIT_S)
                assert pull.returncode == 130
                assert json.loads(out)["error"]["code"] == "interrupted"
                assert "pull: paused" in err
            until(lambda: shown(node)["phase"] == "", "the end of the pull", WAIT_S)
            with node.begin("pull", "large", "--room", "lab", "--json") as pull:
                paused(node, "are needed")
                (disk / "others").unlink()
                receipt, err = finish(pull)
            assert "are needed" in err
            assert watch.content(Path(receipt["path"])) == watch.content(large)

    def test_disk_that_turns_read_only_is_waited_for(self, team, lab, large, disk, watch):
        with member_on(team, lab[0], disk, "locked") as node:
            with node.begin("pull", "large", "--room", "lab", "--json") as pull:
                watch.pulling(node, 4 * MIB)
                (place,) = (disk / "models/.dreamer/partial").iterdir()
                with read_only(place):
                    paused(node, "Read-only")
                    assert pull.poll() is None
                receipt, _ = finish(pull)
            assert receipt["bytes"]["webrtc"] + receipt["resumed"] <= MODEL + 4 * MIB
            assert watch.content(Path(receipt["path"])) == watch.content(large)

    def test_permission_that_is_lost_is_waited_for(self, team, lab, large, disk, watch):
        with member_on(team, lab[0], disk, "barred") as node:
            with node.begin("pull", "large", "--room", "lab", "--json") as pull:
                watch.pulling(node, 4 * MIB)
                # Root may write whatever the mode says, but not to what can't be changed at all.
                files = list((disk / "models/.dreamer/partial").glob("*/*"))
                change("+i", *files)
                paused(node, "not permitted")
                change("-i", *files)
                receipt, _ = finish(pull)
            assert watch.content(Path(receipt["path"])) == watch.content(large)


def change(attribute: str, *files: Path) -> None:
    """Set or clear an attribute of files (chattr of e2fsprogs)."""
    subprocess.run(["chattr", attribute, *map(str, files)], check=True)


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """Let a directory be one that can only be read, as of a disk that had an error."""
    # A mount of its own: what holds other files of that disk open does not matter.
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_partial_file_that_is_cut_short_is_mended(team, lab, large, tmp_path, watch):
    with member_on(team, lab[0], tmp_path, "short") as node:
        with node.begin("pull", "large", "--room", "lab", "--json") as pull:
            watch.pulling(node, 8 * MIB)
            with watch.frozen(lab[0]):
                (path, *_) = sorted(
                    (tmp_path / "models/.dreamer/partial").glob("*/*"),
                    key=lambda path: -path.stat().st_size,
                )
                os.truncate(path, MIB)
            receipt, _ = finish(pull)
        assert receipt["blamed"] == []
        assert watch.content(Path(receipt["path"])) == watch.content(large)


def test_pull_waits_for_the_only_node_that_has_the_model(team, watch):
    seeder, reader = team.nodes("seeder", "reader")
    team.room(seeder, "pair")
    team.join(reader, seeder, "pair")
    source = team.model("rare", MODEL)
    seeder.dreamer("push", str(source), "--room", "pair", "--alias", "rare")
    with reader.begin("pull", "rare", "--room", "pair", "--json") as pull:
        until(lambda: shown(reader)["done"] > 0, "the first block", WAIT_S)
        seeder.process.kill()
        paused(reader, "goes on by itself")
        seeder.start()
        receipt, err = finish(pull)
    assert "start a node that holds it" in err
    assert sum(receipt["bytes"].values()) + receipt["resumed"] <= MODEL + 2 * MIB
    assert watch.content(Path(receipt["path"])) == watch.content(source)
    for node in (seeder, reader):
        node.process.stop()
