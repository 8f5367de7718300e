"""One MODELS_DIR for several daemons: fetched once, used by all, bounded, and no byte too many."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from disk_use import allocated

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import Node, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MIB = 2**20
GIB = 2**30
MODEL = 96 * MIB
BLOCK = MIB
WAIT_S = 60.0


@pytest.fixture(scope="module")
def keeper(team):
    """The node that has the model; its volume is its own."""
    node = team.node("keeper")
    team.room(node, "lab")
    source = team.model("large", MODEL - 3 * MIB, 3 * MIB)
    node.dreamer("push", str(source), "--room", "lab", "--alias", "large")
    return node


@pytest.fixture
def volume(tmp_path) -> Path:
    return tmp_path / "volume"


@pytest.fixture
def on_volume(team, keeper, volume):
    """``on_volume(name)`` starts a member with a home of its own on the volume of the test."""
    started: list[Node] = []

    def start(name: str, **settings: str) -> Node:
        env = {"MODELS_DIR": str(volume), "DREAMER_STORE_GRACE_S": "0", **settings}
        node = team.member(f"{volume.parent.name[-18:]}-{name}", keeper, env=env)
        started.append(node)
        return node

    yield start
    for node in started:
        node.process.kill()


def finish(pull: subprocess.Popen[str]) -> tuple[dict, str]:
    out, err = pull.communicate(timeout=WAIT_S)
    assert pull.returncode == 0, out + err
    return json.loads(out), err


def progress(node: Node) -> dict:
    pulls = Dreamer(node.home).status()["pulls"]
    return pulls[0]["progress"] if pulls else {"phase": "", "note": "", "done": 0}


def waiting(node: Node) -> bool:
    return "waiting for process" in progress(node)["note"]


def test_two_daemons_fetch_a_model_once_and_both_serve_it(team, keeper, on_volume, watch):
    # Slowly, so that the second comes while the first is at it.
    slow = {"DREAMER_NETWORK_DIRECT_LISTEN": ""}
    a, b = on_volume("a", **slow), on_volume("b", **slow)
    with (
        a.begin("pull", "large", "--room", "lab", "--json") as one,
        b.begin("pull", "large", "--room", "lab", "--json") as two,
    ):
        (first, said_a), (second, said_b) = finish(one), finish(two)
    receipts = [first, second]
    # Each is told who fetches it: the other one's daemon.
    waited = [
        f"waiting for process {other.process.pid} on host" in said
        for said, other in ((said_a, b), (said_b, a))
    ]
    assert sorted(waited) == [False, True], said_a + said_b
    moved = [watch.moved(receipt) for receipt in receipts]
    print(f"moved by the two pulls of {MODEL} bytes: {moved}")
    assert sorted(moved) == [0, MODEL]
    assert receipts[0]["path"] == receipts[1]["path"]
    source = watch.content(team.root / "sources/large")
    assert watch.content(Path(receipts[0]["path"])) == source
    # Each of them gives it to others, the one that fetched nothing, too.
    readers = [team.member(f"reader-{number}", keeper) for number in range(2)]
    keeper.process.stop()
    try:
        for reader, gone in zip(readers, (a, b), strict=True):
            gone.process.stop()
            receipt = reader.dreamer("pull", "large", "--room", "lab")
            assert watch.moved(receipt) == MODEL
            reader.process.stop()
            gone.start()
    finally:
        keeper.start()


def test_downloader_that_is_killed_is_followed_by_who_waited(team, keeper, on_volume, watch):
    # Slowly, to be caught half-way.
    slow = {"DREAMER_NETWORK_DIRECT_LISTEN": ""}
    a, b = on_volume("a", **slow), on_volume("b", **slow)
    with (
        a.begin("pull", "large", "--room", "lab") as one,
        b.begin("pull", "large", "--room", "lab", "--json") as two,
    ):
        until(lambda: progress(a)["done"] > 8 * MIB or progress(b)["done"] > 8 * MIB, "it", WAIT_S)
        first, second = (a, b) if progress(a)["done"] > 8 * MIB else (b, a)
        until(lambda: waiting(second), "the other waiting", WAIT_S)
        until(lambda: progress(first)["done"] > MODEL // 4, "a quarter", WAIT_S)
        verified, brought = progress(first)["done"], watch.bytes_down(first)
        first.process.kill()
        answer, last = (one, two) if first is a else (two, one)
        answer.communicate(timeout=WAIT_S)
        out, err = last.communicate(timeout=WAIT_S)
    assert last.returncode == 0, out + err
    receipt = json.loads(out) if last is two else second.dreamer("pull", "large")
    if last is two:
        again = watch.moved(receipt)
        print(f"{verified} verified, {brought} came, {again} fetched after the kill")
        assert again <= MODEL - verified
        assert brought + again - MODEL <= BLOCK
    assert watch.content(Path(receipt["path"])) == watch.content(team.root / "sources/large")


@pytest.mark.parametrize("damage", ["nothing", "a-file-is-cut", "a-file-is-altered"])
def test_volume_that_holds_the_model_starts_a_new_home(
    team, keeper, on_volume, volume, watch, damage
):
    first = on_volume("first")
    receipt = first.dreamer("pull", "large", "--room", "lab")
    first.process.stop()
    # The home is lost, and what is on the volume is what somebody's rsync made of it.
    (stored, *_) = sorted((volume / ".dreamer/files").iterdir(), key=lambda p: -p.stat().st_size)
    before = stored.stat()
    if damage != "nothing":
        stored.chmod(0o600)
        with stored.open("r+b") as file:
            file.seek(2 * MIB)
            file.write(bytes(MIB))
            if damage == "a-file-is-cut":
                file.truncate(3 * MIB)
        os.utime(stored, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = on_volume("second")
    again = second.dreamer("pull", "large", "--room", "lab")
    expected = {"nothing": 0, "a-file-is-cut": MODEL - 5 * MIB, "a-file-is-altered": MIB}
    assert watch.moved(again) == expected[damage]
    assert again["path"] == receipt["path"]
    assert watch.content(Path(again["path"])) == watch.content(team.root / "sources/large")


def test_what_another_daemon_serves_is_not_evicted(team, keeper, on_volume, volume, watch):
    quota = {"DREAMER_STORE_QUOTA_GIB": str(130 * MIB / GIB)}
    a, b = on_volume("a", **quota), on_volume("b", **quota)
    source = team.model(f"other-{volume.parent.name}", 60 * MIB)
    keeper.dreamer("push", str(source), "--room", "lab", "--alias", "other")
    a.dreamer("pull", "large", "--room", "lab")
    reader = team.member(f"reader-{volume.parent.name[-10:]}", keeper)
    keeper.process.stop()
    reader.dreamer("pull", "large", "--room", "lab")
    keeper.start()
    with b.begin("pull", "other", "--room", "lab", "--json") as pull:
        until(lambda: "in use" in progress(b)["note"], "a refusal", WAIT_S)
        assert "large" in progress(b)["note"] or "what would have to go" in progress(b)["note"]
        (one,) = (m for m in a.dreamer("store", "ls")["models"] if m["size_bytes"] == MODEL)
        assert one["whole"]
        assert one["in_use"]
        # Once the one that served it is gone, nobody uses it.
        a.process.stop()
        receipt, _ = finish(pull)
    assert watch.moved(receipt) == 60 * MIB
    models = b.dreamer("store", "ls")["models"]
    assert [m["size_bytes"] for m in models] == [60 * MIB]
    usage = b.dreamer("store", "du")
    assert usage["used_bytes"] <= usage["quota_bytes"]


def test_four_pulls_at_once_stay_below_the_quota(team, keeper, on_volume, volume, watch):
    quota_bytes = 100 * MIB
    node = on_volume("a", DREAMER_STORE_QUOTA_GIB=str(quota_bytes / GIB))
    names = [f"q{number}-{volume.parent.name[-8:]}" for number in range(4)]
    for name in names:
        source = team.model(name, 40 * MIB)
        keeper.dreamer("push", str(source), "--room", "lab", "--alias", name)
    seen: list[int] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.is_set():
            seen.append(allocated(volume))

    sampler = threading.Thread(target=sample)
    sampler.start()
    pulls = [node.begin("pull", name, "--room", "lab", "--json") for name in names]
    try:
        receipts = [finish(pull)[0] for pull in pulls]
    finally:
        ended.set()
        sampler.join()
        for pull in pulls:
            pull.kill()
            pull.communicate()
    print(f"{len(seen)} samples, at most {max(seen)} of {quota_bytes}")
    assert [watch.moved(receipt) for receipt in receipts] == [40 * MIB] * 4
    assert 80 * MIB <= max(seen) <= quota_bytes
    whole = [m for m in node.dreamer("store", "ls")["models"] if m["whole"]]
    assert len(whole) == 2


def test_alias_that_is_pinned_is_followed(team, keeper, on_volume):
    node = on_volume("a")
    first = keeper.dreamer("push", str(team.model("v1", MIB)), "--room", "lab", "--alias", "prod")
    node.dreamer("pull", "prod")
    pinned = node.dreamer("store", "pin", "--alias", "prod")
    assert pinned["manifest_id"] == first["manifest_id"]
    second = keeper.dreamer("push", str(team.model("v2", MIB)), "--room", "lab", "--alias", "prod")

    def follows() -> bool:
        (pin,) = Dreamer(node.home).caches.pins()
        return pin.manifest_id == second["manifest_id"]

    until(follows, "the pin moving with its alias", WAIT_S)
    node.process.stop()
    node.start()
    assert follows()
    assert node.try_dreamer("rm", first["short_id"]).status == 0
    node.dreamer("store", "unpin", "--alias", "prod")
    assert Dreamer(node.home).caches.pins() == []


def test_damage_is_found_set_aside_and_mended(team, keeper, on_volume, volume, watch):
    node = on_volume("a")
    node.dreamer("pull", "large", "--room", "lab")
    assert node.try_dreamer("store", "verify").status == 0
    (stored, *_) = sorted((volume / ".dreamer/files").iterdir(), key=lambda p: -p.stat().st_size)
    before = stored.stat()
    stored.chmod(0o600)
    with stored.open("r+b") as file:
        file.write(bytes(MIB))
    os.utime(stored, ns=(before.st_atime_ns, before.st_mtime_ns))
    answer = node.try_dreamer("store", "verify", "large")
    assert answer.status == 1
    assert "part-0.bin" in answer.out
    assert "pull again" in answer.out
    assert "verify: verify" in answer.err
    listed = node.dreamer("store", "gc", "--older-than", "0")
    assert [one["kind"] for one in listed["found"]] == ["quarantine"]
    receipt = node.dreamer("pull", "large", "--room", "lab")
    assert watch.moved(receipt) == MIB
    assert watch.content(Path(receipt["path"])) == watch.content(team.root / "sources/large")
    assert node.dreamer("store", "gc", "--older-than", "0", "--yes")["found"] == []


@pytest.fixture
def small_disk(volume) -> Iterator[Path]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount disks")
    volume.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=150m", "none", str(volume)], check=True)
    yield volume
    subprocess.run(["umount", "--lazy", str(volume)], check=True)


@pytest.mark.root
def test_full_disk_is_foreseen_and_told_with_what_would_have_to_go(
    team, keeper, small_disk, on_volume, watch
):
    node = on_volume("a", DREAMER_STORE_MIN_FREE_GIB=str(20 * MIB / GIB))
    source = team.model("sixty", 60 * MIB)
    keeper.dreamer("push", str(source), "--room", "lab", "--alias", "sixty")
    node.dreamer("pull", "large", "--room", "lab")
    node.dreamer("store", "pin", "large")
    before = watch.bytes_down(node)
    with node.begin("pull", "sixty", "--room", "lab", "--json") as pull:
        until(lambda: "what would have to go" in progress(node)["note"], "a refusal", WAIT_S)
        note = progress(node)["note"]
        assert "large" in note
        assert "pinned by hand (dreamer store unpin" in note
        assert watch.bytes_down(node) == before
        assert list((small_disk / ".dreamer/partial").glob("*/*")) == []
        # What is only described here is no damage.
        (verified,) = node.dreamer("store", "verify")["models"]
        assert (verified["name"], verified["lacking"]) == ("large", [])
        node.dreamer("store", "unpin", "large")
        receipt, _ = finish(pull)
    assert watch.content(Path(receipt["path"])) == watch.content(source)
    assert shutil.disk_usage(small_disk).free >= 20 * MIB
