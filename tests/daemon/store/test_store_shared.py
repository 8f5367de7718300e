"""One volume, several daemons: they share what is there, and none takes away what another uses."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dreamer.daemon.state import State
from dreamer.daemon.store import locks
from dreamer.daemon.store.locks import FileLock, HeldElsewhereError, holder, is_held
from dreamer.daemon.store.pins import Pin
from dreamer.daemon.store.quota import Quota, StoreLimits
from dreamer.daemon.store.store import Store
from dreamer.protocol.errors import DiskError, LocalError
from dreamer.protocol.limits import BLOCK_BYTES

MIB = BLOCK_BYTES
WAIT_S = 30.0
LONG_AGO = time.time() - 100_000

MakeElsewhere = Callable[..., Any]


def ignore(done: int, total: int) -> None:
    pass


def begin(store: Store, model: Any) -> Any:
    model.give(store)
    return store.open_download(model.manifest, model.outboard, ignore, threading.Event())


def pull(store: Store, model: Any) -> None:
    with begin(store, model) as download:
        model.fill(download)
        for index in download.missing_files():
            download.finish_file(index)


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """``daemons("name")`` opens one volume as another daemon with a home of its own would."""
    opened: list[tuple[Store, State]] = []

    def open_one(name: str, root: str = "volume", **limits: Any) -> Store:
        state = State(tmp_path / f"{name}.db")
        store = Store(tmp_path / root, state, StoreLimits(**limits))
        opened.append((store, state))
        return store

    yield open_one
    for store, state in opened:
        store.close()
        state.close()


@pytest.fixture
def model(elsewhere: MakeElsewhere, contents: dict[str, bytes]) -> Any:
    return elsewhere(contents)


def test_what_one_fetched_another_finds_by_its_hashes(
    daemons: Callable[..., Store], model: Any
) -> None:
    a, b = daemons("a"), daemons("b")
    assert b.manifest(model.manifest.id) is None
    pull(a, model)
    # Nothing that another daemon says of a file is believed: it is hashed, once.
    assert b.locate(model.manifest, 0) is None
    assert b.manifest(model.manifest.id) == model.manifest
    assert b.complete(model.manifest)
    assert b.locate(model.manifest, 0) is not None
    assert b.known() == a.known() == [model.manifest.id]


def test_one_downloads_and_the_other_learns_who(daemons: Callable[..., Store], model: Any) -> None:
    a, b = daemons("a"), daemons("b")
    with begin(a, model) as download:
        with pytest.raises(HeldElsewhereError) as refused:
            begin(b, model)
        assert refused.value.holder == f"process {os.getpid()} on host {socket.gethostname()}"
        assert b.downloader(model.manifest.id) == refused.value.holder
        assert a.downloader(model.manifest.id) == ""
        model.fill(download, range(3))
    assert b.downloader(model.manifest.id) == ""
    with begin(b, model) as second:
        assert second.resumed_bytes == sum(
            model.manifest.layout.block_size(block) for block in range(3)
        )


def test_one_that_starts_leaves_the_others_work_alone(
    daemons: Callable[..., Store], tmp_path: Path
) -> None:
    a = daemons("a")
    under_way = a.new_folder()
    under_way.mkdir()
    b = daemons("b")
    assert under_way.is_dir()
    assert a.new_folder().parent != b.new_folder().parent
    dead = tmp_path / "volume" / ".dreamer" / "staging" / "1-dead"
    dead.mkdir()
    daemons("c")
    assert not dead.exists()
    assert under_way.is_dir()


@pytest.mark.parametrize("use", ["kept", "served", "pulled"])
def test_what_another_daemon_uses_is_not_removed(
    daemons: Callable[..., Store], elsewhere: MakeElsewhere, use: str
) -> None:
    a, b = daemons("a", quota_bytes=10 * MIB), daemons("b", quota_bytes=10 * MIB)
    used, wanted = (elsewhere({"weights": bytes([seed]) * (6 * MIB)}, str(seed)) for seed in (1, 2))
    name = used.manifest.id
    if use == "pulled":
        begin(a, used)
    else:
        pull(a, used)
        if use == "kept":
            a.keep(name)
        else:
            assert a.locate(used.manifest, 0)
    for store in (a, b):
        store.used(name, LONG_AGO)
    with pytest.raises(DiskError, match="in use"):
        begin(b, wanted)
    with pytest.raises(LocalError, match=r"wait for that|in use"):
        b.forget(name)
    if use == "kept":
        a.let_go(name)
        begin(b, wanted).close()
        assert a.known() == b.known() == [wanted.manifest.id]
        assert not a.complete(used.manifest)
        assert a.locate(used.manifest, 0) is None


def test_pin_of_one_daemon_holds_for_all(
    daemons: Callable[..., Store], elsewhere: MakeElsewhere
) -> None:
    a, b = daemons("a", quota_bytes=10 * MIB), daemons("b", quota_bytes=10 * MIB)
    kept, wanted = (elsewhere({"weights": bytes([seed]) * (6 * MIB)}, str(seed)) for seed in (1, 2))
    pull(a, kept)
    a.used(kept.manifest.id, LONG_AGO)
    a.pins.put(Pin(kept.manifest.id, by="a"))
    with pytest.raises(DiskError, match="pinned by hand"):
        begin(b, wanted)
    with pytest.raises(LocalError, match="unpin"):
        b.forget(kept.manifest.id)
    b.pins.drop(*b.pins.all())
    begin(b, wanted)


def test_last_use_by_any_daemon_counts(
    daemons: Callable[..., Store], elsewhere: MakeElsewhere
) -> None:
    a, b = daemons("a", quota_bytes=10 * MIB), daemons("b", quota_bytes=10 * MIB)
    one, two, wanted = (
        elsewhere({"weights": bytes([seed]) * (4 * MIB)}, str(seed)) for seed in (1, 2, 3)
    )
    pull(a, one)
    pull(a, two)
    a.used(one.manifest.id, LONG_AGO)
    a.used(two.manifest.id, LONG_AGO + 10)
    b.used(one.manifest.id, LONG_AGO + 20)
    begin(b, wanted).close()
    assert one.manifest.id in b.known()
    assert two.manifest.id not in b.known()


def test_file_that_two_daemons_models_share_survives_the_removal_of_one(
    daemons: Callable[..., Store], elsewhere: MakeElsewhere
) -> None:
    a, b = daemons("a"), daemons("b")
    shared = {"tokenizer": b"t" * MIB}
    first = elsewhere({**shared, "weights": b"1" * MIB}, "1")
    second = elsewhere({**shared, "weights": b"2" * MIB}, "2")
    pull(a, first)
    # The other's download counts on the file from the moment it was told that it is there.
    with begin(b, second) as download:
        assert download.cached_bytes == MIB
        a.forget(first.manifest.id)
        second.fill(download, range(1, 2))
        download.finish_file(1)
    assert b.complete(second.manifest)


def test_both_may_lay_a_model_out(daemons: Callable[..., Store], model: Any) -> None:
    a, b = daemons("a"), daemons("b")
    pull(a, model)
    assert b.complete(model.manifest)
    manifest = model.manifest
    place = a.lay_out(manifest.id, manifest, "m", None)
    assert b.lay_out(manifest.id, manifest, "m", None) == place
    # What one made the other repairs, after another home's database was lost, too.
    victim = place / manifest.files[0].path
    victim.unlink()
    victim.write_bytes(b"damaged")
    assert b.lay_out(manifest.id, manifest, "m", None) == place
    assert victim.samefile(b.file(manifest.files[0].digest))


def test_volume_of_another_home_needs_no_byte(
    daemons: Callable[..., Store], model: Any, tmp_path: Path
) -> None:
    a = daemons("a")
    pull(a, model)
    a.lay_out(model.manifest.id, model.manifest, "m", None)
    a.close()
    shutil.copytree(tmp_path / "volume", tmp_path / "copy", symlinks=True)
    b = daemons("new-home", "copy")
    with begin(b, model) as download:
        assert download.cached_bytes == model.manifest.size_bytes
        assert download.missing_files() == []


def test_copy_of_a_volume_is_not_believed_for_its_times(
    daemons: Callable[..., Store], model: Any, tmp_path: Path
) -> None:
    a = daemons("a")
    pull(a, model)
    a.close()
    # As ``rsync -a --inplace`` leaves it when it is cut off: names, sizes and times are right.
    shutil.copytree(tmp_path / "volume", tmp_path / "copy", symlinks=True)
    entry = max(model.manifest.files, key=lambda one: one.size_bytes)
    path = tmp_path / "copy" / ".dreamer" / "files" / entry.digest.hex()
    before = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(MIB)
        file.write(bytes(MIB))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "volume").rename(tmp_path / "old")
    (tmp_path / "copy").rename(tmp_path / "volume")
    again = daemons("a")
    assert not again.complete(model.manifest)
    with begin(again, model) as download:
        assert model.manifest.size_bytes - download.cached_bytes == MIB


def test_leftovers_of_a_live_daemon_are_none(
    daemons: Callable[..., Store], elsewhere: MakeElsewhere
) -> None:
    a, b = daemons("a"), daemons("b")
    model = elsewhere({"weights": b"w" * (2 * MIB)})
    with begin(a, model) as download:
        model.fill(download, range(1))
        a.new_folder().mkdir()
        assert b.collect((), 0, True).found == ()
        model.fill(download, range(1, 2))
        download.finish_file(0)
    assert b.complete(model.manifest)


HOLD = """
import sys, time
from pathlib import Path
from dreamer.daemon.store.locks import FileLock
lock = FileLock.take(Path(sys.argv[1]), exclusive=sys.argv[2] == "exclusive")
print("held" if lock else "refused", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other_process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def start(*args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, *args], stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_lock_ends_with_its_process_however_it_ends(
    tmp_path: Path, other_process: Callable[..., subprocess.Popen[str]]
) -> None:
    path = tmp_path / "lock"
    process = other_process(str(path), "exclusive")
    assert said(process) == "held"
    assert FileLock.take(path, exclusive=True) is None
    assert FileLock.take(path, exclusive=False) is None
    assert is_held(path)
    assert holder(path) == f"process {process.pid} on host {socket.gethostname()}"
    process.send_signal(signal.SIGKILL)
    process.wait(WAIT_S)
    assert not is_held(path)
    with FileLock.take(path, exclusive=True) or pytest.fail("it is free"):
        assert holder(path) == f"process {os.getpid()} on host {socket.gethostname()}"


def test_shared_lock_is_held_by_many_and_keeps_out_who_wants_it_alone(
    tmp_path: Path, other_process: Callable[..., subprocess.Popen[str]]
) -> None:
    path = tmp_path / "lock"
    process = other_process(str(path), "shared")
    assert said(process) == "held"
    ours = FileLock.take(path, exclusive=False)
    assert ours is not None
    assert FileLock.take(path, exclusive=True) is None
    process.kill()
    process.wait(WAIT_S)
    assert FileLock.take(path, exclusive=True) is None
    ours.close()
    alone = FileLock.take(path, exclusive=True)
    assert alone is not None
    alone.discard()
    assert not path.exists()


def test_lock_file_that_was_removed_meanwhile_locks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    first = FileLock.take(path, exclusive=True)
    assert first is not None
    lock_it = locks._try
    holders = [first]

    def let_go_first(fd: int, path: Path, exclusive: bool) -> bool:
        # The file is open already, and its holder removes it before it is locked.
        while holders:
            holders.pop().discard()
        return lock_it(fd, path, exclusive)

    monkeypatch.setattr(locks, "_try", let_go_first)
    second = FileLock.take(path, exclusive=True)
    assert second is not None
    assert path.exists()
    assert FileLock.take(path, exclusive=True) is None
    second.close()


def test_only_one_daemon_at_a_time_counts_and_takes_room(
    daemons: Callable[..., Store], elsewhere: MakeElsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = [daemons(name, quota_bytes=10 * MIB) for name in ("a", "b")]
    models = [elsewhere({"weights": bytes([n]) * (6 * MIB)}, str(n)) for n in (1, 2)]
    for store, model in zip(stores, models, strict=True):
        model.give(store)
    both = threading.Barrier(2)
    count = Quota.lacking

    def counted(self: Quota, need: Any) -> int:
        found = count(self, need)
        # Were the other one here too, each would find room that they have only once.
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)
        return found

    refused: list[DiskError] = []

    def work(store: Store, model: Any) -> None:
        try:
            begin(store, model)
        except DiskError as error:
            refused.append(error)

    monkeypatch.setattr(Quota, "lacking", counted)
    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(stores, models, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(refused) == 1
    assert stores[0].usage().used_bytes <= 10 * MIB
