from __future__ import annotations

import stat
import subprocess
import sys

import pytest

from dreamer.daemon.identity import NodeIdentity, write_private
from dreamer.protocol.errors import LocalError


def test_identity_is_made_once_and_kept(tmp_path):
    made = NodeIdentity.load_or_create(tmp_path)
    assert len(made.node_id) == 32
    assert NodeIdentity.load_or_create(tmp_path).node_id == made.node_id
    assert NodeIdentity.load_or_create(tmp_path / "other").node_id != made.node_id


def test_key_and_its_folder_are_for_the_owner_alone(tmp_path):
    NodeIdentity.load_or_create(tmp_path)
    folder = tmp_path / "identity"
    assert stat.S_IMODE((folder / "node.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [entry.name for entry in folder.iterdir()] == ["node.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_key_open_to_others_is_refused_with_the_cure(tmp_path, mode):
    NodeIdentity.load_or_create(tmp_path)
    key = tmp_path / "identity" / "node.key"
    key.chmod(mode)
    with pytest.raises(LocalError, match="chmod 600"):
        NodeIdentity.load_or_create(tmp_path)


@pytest.mark.parametrize("content", [b"", b"ab", b"zz" * 32, b"\xff" * 64, b"ab" * 33])
def test_damaged_key_is_refused_and_left_alone(tmp_path, content):
    NodeIdentity.load_or_create(tmp_path)
    key = tmp_path / "identity" / "node.key"
    key.write_bytes(content)
    with pytest.raises(LocalError, match="damaged"):
        NodeIdentity.load_or_create(tmp_path)
    assert key.read_bytes() == content


def test_home_that_can_not_be_written_says_where(tmp_path):
    (tmp_path / "home").write_text("a file")
    with pytest.raises(LocalError, match=r"node\.key"):
        NodeIdentity.load_or_create(tmp_path / "home")


def test_processes_that_start_at_once_agree_on_one_key(tmp_path):
    code = (
        "import sys, pathlib; from dreamer.daemon.identity import NodeIdentity; sys.stdin.read();"
        "print(NodeIdentity.load_or_create(pathlib.Path(sys.argv[1])).node_id.hex())"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    for racer in racers:
        racer.stdin.close()
        racer.stdin = None
    assert len({racer.communicate(timeout=30)[0] for racer in racers}) == 1


def test_private_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "secret"
    write_private(path, b"one")
    write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["secret"]
