"""Content and peers that can't be trusted: what is wrong is refused, what is right still comes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from blake3 import blake3

from dreamer.daemon.client import Dreamer
from dreamer.daemon.state import HeldModel, State
from dreamer.protocol import canonical
from dreamer.protocol.ids import ManifestId, RoomId
from dreamer.simulations.loopback import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

MIB = 2**20
WAIT_S = 90.0
ROGUE = Path(__file__).with_name("rogue_node.py")


def store_of(node):
    return node.home / "models" / ".dreamer"


def stored(node, receipt, room="lab"):
    """The files of a model as they lie in a node's store."""
    manifest = json.loads((store_of(node) / "objects" / receipt["manifest_id"]).read_bytes())
    return [store_of(node) / "files" / entry["hash"] for entry in manifest["files"]]


def damage(path):
    """Change a byte in each block, so that the file looks as it did."""
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        for offset in range(0, before.st_size, MIB):
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))
    path.chmod(0o444)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rogue(node):
    """Let a node run from now on without its checks."""
    node.process.stop()
    node.process.argv[:1] = [sys.executable, str(ROGUE)]


@pytest.fixture
def other(team, lab, request):
    """One more member of both rooms, which stops with the test."""
    node = team.member(f"N{len(list(team.root.iterdir()))}", lab[0])
    team.join(node, lab[0], "depot")
    yield node
    node.process.__exit__(None, None, None)


def node_id(node):
    return node.dreamer("status")["node_id"]


# Manifests


def test_manifest_tampered_with_at_the_only_seeder(team, lab, other, watch):
    source = team.model("tampered", 2 * MIB)
    pushed = other.dreamer("push", str(source), "--room", "lab", "--alias", "tampered")
    liar = node_id(other)
    rogue(other)
    manifest = store_of(other) / "objects" / pushed["manifest_id"]
    manifest.write_bytes(manifest.read_bytes().replace(b"part-0.bin", b"part-X.bin"))
    other.start()
    answer = lab[1].try_dreamer("pull", "tampered", "--room", "lab")
    watch.one_line(answer, "nobody who is online has", "start a node that has it and pull again")
    assert liar[:8] in lab[1].dreamer("status")["bans"]
    # Somebody honest has it too, and that is enough.
    lab[0].dreamer("push", str(source), "--room", "lab")
    receipt = lab[1].dreamer("pull", "tampered", "--room", "lab")
    assert list(receipt["peers"]) == [node_id(lab[0])]
    assert watch.content(Path(receipt["path"])) == watch.content(source)


def test_manifest_damaged_on_the_seeders_disk_is_not_passed_on(team, lab, other, watch):
    source = team.model("rotten", MIB)
    pushed = other.dreamer("push", str(source), "--room", "lab", "--alias", "rotten")
    manifest = store_of(other) / "objects" / pushed["manifest_id"]
    manifest.write_bytes(manifest.read_bytes() + b" ")
    watch.one_line(lab[1].try_dreamer("pull", "rotten", "--room", "lab"), "pull again")
    assert lab[1].dreamer("status")["bans"].count(node_id(other)[:8]) == 0
    other.dreamer("push", str(source), "--room", "lab", "--alias", "rotten")
    assert watch.moved(lab[1].dreamer("pull", "rotten", "--room", "lab")) == MIB


def test_manifest_tampered_with_at_the_origin(team, lab, other, watch):
    source = team.model("spoilt", MIB)
    pushed = other.dreamer("push", str(source), "--room", "depot", "--alias", "spoilt")
    bucket, prefix = pushed["origin"].removeprefix("s3://").split("/", 1)
    key = f"{prefix}/objects/{pushed['manifest_id']}"
    client = team.s3()
    good = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.put_object(Bucket=bucket, Key=key, Body=good.replace(b"part-0", b"part-X"))
    other.process.stop()
    watch.without(lab[1], other)
    answer = lab[1].try_dreamer("pull", "spoilt", "--room", "depot")
    watch.one_line(answer, "damaged: push the model again")
    client.put_object(Bucket=bucket, Key=key, Body=good)
    client.close()
    receipt = lab[1].dreamer("pull", "spoilt", "--room", "depot")
    assert receipt["bytes"]["origin"] == MIB
    assert watch.content(Path(receipt["path"])) == watch.content(source)


async def test_manifest_whose_path_climbs_out(team, lab, other, watch, at_tracker):
    evil = b"climbed out"
    digest = blake3(evil).digest()
    outboard = blake3(digest).digest()
    file = {
        "hash": digest.hex(),
        "path": "../../climbed",
        "shards": [digest.hex()],
        "size": len(evil),
    }
    manifest = canonical.dumps(
        {"blocks": 1, "dreamer": 1, "files": [file], "groups": [], "outboard": outboard.hex()}
    )
    manifest_id = blake3(manifest).digest()
    rogue(other)
    for name, data in ((manifest_id, manifest), (outboard, digest)):
        (store_of(other) / "objects" / name.hex()).write_bytes(data)
    (store_of(other) / "files" / digest.hex()).write_bytes(evil)
    async with at_tracker(other, "lab") as hand:
        await hand.publish(manifest_id, "innocent")
        room = RoomId(hand.membership.card.room_id)
    state = State(other.home / "state.db")
    state.put_model(
        HeldModel(ManifestId(manifest_id), room, "innocent", other.home, time.time(), time.time())
    )
    state.close()
    other.start()
    answer = lab[1].try_dreamer("pull", manifest_id.hex()[:12], "--room", "lab")
    watch.one_line(answer, "'../../climbed'")
    assert not list(team.root.rglob("climbed"))
    good = team.model("honest", 100)
    lab[0].dreamer("push", str(good), "--room", "lab", "--alias", "honest")
    receipt = lab[1].dreamer("pull", "honest", "--room", "lab")
    assert watch.content(Path(receipt["path"])) == watch.content(good)


# The registry


async def test_registry_changed_by_one_who_did_not_sign(team, watch, at_tracker):
    keeper = team.node("keeper")
    team.room(keeper, "forged")
    source = team.model("signed", 1000)
    pushed = keeper.dreamer("push", str(source), "--room", "forged", "--alias", "signed")
    bad = keeper.dreamer("push", str(team.model("bad", 900)), "--room", "forged")
    forger = team.member("forger", keeper, room="forged")
    token = Dreamer(keeper.home).invite("forged", ())
    for node in (forger, keeper):
        node.process.stop()
    async with at_tracker(forger, "forged") as hand:
        good, _ = await hand.read()
        document = json.loads(good)
        document["aliases"]["signed"][-1]["model"] = bad["manifest_id"]
        document["models"][pushed["manifest_id"]]["entry"]["name"] = "renamed"
        assert canonical.dumps(document) != good
        await hand.replace(canonical.dumps(document))
    # Who has never seen it otherwise is told what is wrong, and gets nothing.
    late = team.node("late")
    Dreamer(late.home).join_room(token)
    for ref in ("signed", pushed["short_id"]):
        answer = late.try_dreamer("pull", ref, "--room", "forged")
        watch.one_line(answer, ref, "wrong signature", "push it again")
    # Who has seen it puts it back as it was.
    keeper.start()
    pulled = ("pull", "signed", "--room", "forged")
    until(lambda: late.try_dreamer(*pulled).status == 0, "the right registry", WAIT_S)
    assert watch.content(Path(late.dreamer(*pulled)["path"])) == watch.content(source)


async def test_old_registry_is_not_passed_off_as_new(team, lab, other, at_tracker):
    def push(name):
        source = team.model(name, 100)
        return lab[0].dreamer("push", str(source), "--room", "lab", "--alias", "version")

    def pulled():
        return lab[1].dreamer("pull", "version", "--room", "lab")["short_id"]

    push("v1")
    other.process.stop()
    async with at_tracker(other, "lab") as hand:
        old, _ = await hand.read()
        second = push("v2")
        assert pulled() == second["short_id"]
        await hand.replace(old)
    assert pulled() == second["short_id"]
    # The next change stands on the newest registry, not on the old one.
    third = push("v3")
    assert pulled() == third["short_id"]
    assert lab[1].dreamer("pull", second["short_id"], "--room", "lab")["name"] == "v2"


# Bytes


def test_peer_that_sends_bad_blocks_is_blamed_and_replaced(team, lab, other, watch):
    source = team.model("flipped", 12 * MIB)
    pushed = lab[0].dreamer("push", str(source), "--room", "lab", "--alias", "flipped")
    other.dreamer("pull", "flipped", "--room", "lab")
    for path in stored(other, pushed):
        damage(path)
    receipt = lab[2].dreamer("pull", "flipped", "--room", "lab")
    assert receipt["blamed"] == [node_id(other)]
    assert receipt["peers"] == {node_id(lab[0]): 12 * MIB}
    assert watch.content(Path(receipt["path"])) == watch.content(source)
    assert lab[2].dreamer("status")["bans"] == [node_id(other)[:8]]


def test_bad_blocks_of_the_only_peer_come_from_the_origin(team, lab, other, watch):
    source = team.model("rescued", 3 * MIB)
    pushed = other.dreamer("push", str(source), "--room", "depot", "--alias", "rescued")
    for path in stored(other, pushed):
        damage(path)
    receipt = lab[1].dreamer("pull", "rescued", "--room", "depot")
    assert receipt["blamed"] == [node_id(other)]
    assert receipt["bytes"]["origin"] == 3 * MIB
    assert watch.content(Path(receipt["path"])) == watch.content(source)


def test_file_cut_short_at_a_seeder_is_fetched_elsewhere_and_repaired(team, lab, other, watch):
    source = team.model("short", 12 * MIB)
    pushed = lab[0].dreamer("push", str(source), "--room", "lab", "--alias", "short")
    other.dreamer("pull", "short", "--room", "lab")
    (path,) = stored(other, pushed)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.truncate(MIB + 5)
    receipt = lab[1].dreamer("pull", "short", "--room", "lab")
    assert receipt["blamed"] == []
    assert watch.content(Path(receipt["path"])) == watch.content(source)
    again = other.dreamer("pull", "short", "--room", "lab")
    assert 0 < watch.moved(again) <= 12 * MIB
    assert watch.content(Path(again["path"])) == watch.content(source)
    assert watch.moved(other.dreamer("pull", "short", "--room", "lab")) == 0


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for about twelve MiB of content, and the way to make it larger."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=28m", "none", str(place)], check=True)

    def grow():
        subprocess.run(["mount", "-o", "remount,size=200m", str(place)], check=True)

    yield place, grow
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_full_disk_is_said_and_survived(team, lab, small_disk, watch):
    place, grow = small_disk
    large, little = team.model("large", 40 * MIB), team.model("little", 4 * MIB)
    for source in (large, little):
        lab[0].dreamer("push", str(source), "--room", "lab", "--alias", source.name)
    node = team.member("cramped", lab[0], env={"MODELS_DIR": str(place)})
    with node.process:
        first = node.dreamer("pull", "little", "--room", "lab")
        for words in (("pull", "large"), ("push", str(large), "--alias", "mine")):
            line = watch.one_line(
                node.try_dreamer(*words, "--room", "lab"), "are needed", "MODELS_DIR"
            )
            assert str(place) in line
        # What was here still is, and the rest comes once there is room.
        assert watch.content(Path(first["path"])) == watch.content(little)
        grow()
        receipt = node.dreamer("pull", "large", "--room", "lab")
        assert watch.content(Path(receipt["path"])) == watch.content(large)


# Peers that hang


def test_peer_that_hangs_half_way_is_replaced_by_another(team, lab, other, watch):
    source = team.model("hanging", 40 * MIB)
    lab[0].dreamer("push", str(source), "--room", "lab", "--alias", "hanging")
    other.dreamer("pull", "hanging", "--room", "lab")
    with lab[2].begin("pull", "hanging", "--room", "lab", "--json") as pull:
        watch.pulling(lab[2], 4 * MIB)
        with watch.frozen(other):
            out, err = pull.communicate(timeout=WAIT_S)
    assert pull.returncode == 0, out + err
    receipt = json.loads(out)
    assert watch.content(Path(receipt["path"])) == watch.content(source)
    assert receipt["blamed"] == []


def test_only_peer_that_hangs_half_way_is_replaced_by_the_origin(team, lab, other, watch):
    source = team.model("stuck", 40 * MIB)
    other.dreamer("push", str(source), "--room", "depot", "--alias", "stuck")
    with lab[2].begin("pull", "stuck", "--room", "depot", "--json") as pull:
        watch.pulling(lab[2], 4 * MIB)
        with watch.frozen(other):
            out, err = pull.communicate(timeout=WAIT_S)
    assert pull.returncode == 0, out + err
    receipt = json.loads(out)
    assert receipt["bytes"]["origin"] > 0
    assert receipt["bytes"]["direct"] > 0
    assert watch.content(Path(receipt["path"])) == watch.content(source)
