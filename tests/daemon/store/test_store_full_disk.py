"""A disk that is really full: a small tmpfs under the store."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from dreamer.daemon.state import State
from dreamer.daemon.store import quota, space
from dreamer.daemon.store.store import Store
from dreamer.protocol.errors import LocalError
from dreamer.protocol.limits import BLOCK_BYTES, MIB

DISK_BYTES = 24 * MIB

pytestmark = pytest.mark.root


def ignore(done: int, total: int) -> None:
    pass


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, timeout=10).returncode != 0:
        pytest.skip("this machine does not allow mounts")
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=10)


@pytest.fixture
def small_store(disk: Path, state: State) -> Iterator[Store]:
    store = Store(disk / "models", state)
    yield store
    store.close()


def test_push_that_will_not_fit_says_both_figures(
    small_store: Store, write_model: Callable[..., Path]
) -> None:
    source = write_model({"weights": bytes(12 * MIB)})
    with pytest.raises(LocalError, match=r"12\.6 MB are needed and 25.* MB are free"):
        small_store.ingest(source, ignore, threading.Event())
    assert small_store.usage().content_bytes == 0


def test_download_that_will_not_fit_is_refused_before_it_begins(
    small_store: Store, elsewhere: Callable[..., Any]
) -> None:
    model = elsewhere({"weights": bytes(12 * MIB)})
    with pytest.raises(LocalError, match="MODELS_DIR"):
        small_store.open_download(model.manifest, model.outboard, ignore, threading.Event())
    assert small_store.usage().partial_bytes == 0


def test_push_has_its_room_from_the_beginning(
    small_store: Store,
    write_model: Callable[..., Path],
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(space, "STORE_RESERVE_BYTES", 0)
    monkeypatch.setattr(quota, "STORE_RESERVE_BYTES", 0)
    source = write_model({"a": bytes(4 * MIB), "b": bytes(4 * MIB)})

    def fill_disk(done: int, total: int) -> None:
        if (disk / "intruder").exists():
            return
        with (disk / "intruder").open("xb") as file:
            os.posix_fallocate(file.fileno(), 0, space.free_bytes(disk) - BLOCK_BYTES)

    manifest_id, _ = small_store.ingest(source, fill_disk, threading.Event())
    assert small_store.held() == [manifest_id]


def test_disk_that_fills_up_meanwhile_keeps_a_download(
    small_store: Store, elsewhere: Callable[..., Any], disk: Path
) -> None:
    model = elsewhere({"weights": b"".join(bytes([n]) * BLOCK_BYTES for n in range(1, 5))})
    model.give(small_store)
    stop = threading.Event()
    with small_store.open_download(model.manifest, model.outboard, ignore, stop) as download:
        model.fill(download, range(2))
        with (disk / "intruder").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, space.free_bytes(disk))
        # The room was reserved at the beginning, so the rest still fits.
        model.fill(download, range(2, 4))
        with pytest.raises(LocalError, match="full"):
            small_store.put_object(*_object(64 * BLOCK_BYTES // 100))
        download.finish_file(0)
    assert small_store.complete(model.manifest)


def _object(size_bytes: int) -> tuple[Any, bytes]:
    data = bytes(size_bytes)
    return blake3(data).digest(), data
