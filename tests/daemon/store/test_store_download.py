"""Downloads: resumed after a kill, repaired, shared between models, and refused when they lie."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreamer.daemon.state import State
from dreamer.daemon.store.download import Download
from dreamer.daemon.store.files import StoredFiles
from dreamer.daemon.store.store import Store
from dreamer.protocol.content import manifest as manifests
from dreamer.protocol.content.hashing import hash_blocks
from dreamer.protocol.content.manifest import FileEntry, Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.errors import DiskError, LocalError, ManifestError, StoppedError
from dreamer.protocol.limits import BLOCK_BYTES

MakeElsewhere = Callable[..., Any]


def ignore(done: int, total: int) -> None:
    pass


def begin(store: Store, model: Any) -> Download:
    model.give(store)
    return store.open_download(model.manifest, model.outboard, ignore, threading.Event())


def finish(download: Download) -> None:
    for index in download.missing_files():
        download.finish_file(index)
    download.close()


def every_block(manifest: Manifest) -> int:
    return (1 << manifest.block_count) - 1


def pull(store: Store, model: Any) -> Download:
    download = begin(store, model)
    missing = [b for b in range(model.manifest.block_count) if not download.present >> b & 1]
    model.fill(download, iter(missing))
    finish(download)
    return download


def noise(*seeds: int) -> bytes:
    return b"".join(bytes([seed]) * BLOCK_BYTES for seed in seeds)


def test_download_ends_as_a_stored_model(
    store: Store, elsewhere: MakeElsewhere, contents: dict[str, bytes]
) -> None:
    model = elsewhere(contents)
    download = begin(store, model)
    assert download.present == 0
    assert not store.complete(model.manifest)
    assert download.missing_files() == [0, 1, 2, 3]
    model.fill(download)
    finish(download)
    assert store.complete(model.manifest)
    assert store.held() == [model.manifest.id]
    assert list((store.root / ".dreamer" / "partial").iterdir()) == []


def test_verified_block_of_a_running_download_can_be_served(
    store: Store, elsewhere: MakeElsewhere, contents: dict[str, bytes]
) -> None:
    model = elsewhere(contents)
    with begin(store, model) as download:
        model.fill(download, range(2, 3))
        location = store.locate(model.manifest, 2)
        assert location is not None
        with location.path.open("rb") as file:
            file.seek(location.offset)
            assert model.outboard.matches(2, file.read(location.length))
    assert store.locate(model.manifest, 2) is None


def test_blocks_of_one_file_are_found_by_one_look_at_it(
    store: Store,
    elsewhere: MakeElsewhere,
    contents: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = elsewhere(contents)
    pull(store, model)
    looks: list[str] = []
    trusted = StoredFiles.trusted

    def counted(self: StoredFiles, entry: FileEntry) -> bool:
        looks.append(entry.path)
        return trusted(self, entry)

    blocks = range(model.manifest.block_count)
    singly = [store.locate(model.manifest, block) for block in blocks]
    monkeypatch.setattr(StoredFiles, "trusted", counted)
    assert store.locate_all(model.manifest, blocks) == singly
    assert len(looks) == len(set(looks)) < len(blocks)


def test_file_that_becomes_whole_while_its_blocks_are_located_is_found(
    store: Store, elsewhere: MakeElsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = elsewhere({"weights": noise(1, 2)})
    readable = Download.readable

    def finished_first(self: Download, block: int) -> Any:
        self.finish_file(0)
        return readable(self, block)

    with begin(store, model) as download:
        model.fill(download)
        monkeypatch.setattr(Download, "readable", finished_first)
        found = store.locate_all(model.manifest, range(2))
        assert found is not None
        assert {place.path for place in found} == {download.stored_path(0)}


def test_second_download_moves_nothing(
    store: Store, elsewhere: MakeElsewhere, contents: dict[str, bytes]
) -> None:
    model = elsewhere(contents)
    pull(store, model)
    again = begin(store, model)
    assert again.present == every_block(model.manifest)
    assert again.cached_bytes == model.manifest.size_bytes
    assert again.missing_files() == []
    again.close()


def test_same_model_is_not_downloaded_twice_at_once(
    store: Store, elsewhere: MakeElsewhere, contents: dict[str, bytes]
) -> None:
    model = elsewhere(contents)
    first = begin(store, model)
    with pytest.raises(LocalError, match="already"):
        begin(store, model)
    with pytest.raises(LocalError, match="already"):
        store.forget(model.manifest.id)
    first.close()
    second = begin(store, model)
    first.close()
    with pytest.raises(LocalError, match="already"):
        begin(store, model)
    second.close()


def test_interrupted_download_resumes_from_what_is_on_disk(
    store: Store, elsewhere: MakeElsewhere, contents: dict[str, bytes]
) -> None:
    model = elsewhere(contents)
    with begin(store, model) as first:
        model.fill(first, iter([1, 4]))
    seen: list[tuple[int, int]] = []
    second = store.open_download(
        model.manifest, model.outboard, lambda *args: seen.append(args), threading.Event()
    )
    assert second.present == 1 << 1 | 1 << 4
    sizes = [model.manifest.layout.block_size(block) for block in (1, 4)]
    assert second.resumed_bytes == sum(sizes)
    assert seen[-1] == (sum(sizes), model.manifest.size_bytes)
    second.close()


def test_damaged_block_of_a_partial_file_is_fetched_again(
    store: Store, elsewhere: MakeElsewhere, contents: dict[str, bytes]
) -> None:
    model = elsewhere(contents)
    with begin(store, model) as first:
        model.fill(first)
        target = first.target(2)
    with target.path.open("r+b") as file:
        file.seek(target.offset + 1000)
        file.write(b"?")
    second = begin(store, model)
    assert second.present == every_block(model.manifest) & ~(1 << 2)
    model.fill(second, iter([2]))
    finish(second)
    assert store.complete(model.manifest)


WRITER = """
import sys, threading
from pathlib import Path
from dreamer.daemon.state import State
from dreamer.daemon.store.store import Store
from dreamer.protocol.content import manifest as manifests
from dreamer.protocol.content.outboard import Outboard

store = Store(Path(sys.argv[1]), State(Path(sys.argv[2])))
manifest = manifests.parse(Path(sys.argv[3]).read_bytes())
outboard = Outboard(Path(sys.argv[4]).read_bytes())
download = store.open_download(manifest, outboard, lambda *args: None, threading.Event())
source = Path(sys.argv[5]).read_bytes()
for block in range(3):
    download.write(block, source[block << 20:(block + 1) << 20])
target = download.target(3)
with target.path.open("r+b") as file:
    file.seek(target.offset)
    file.write(source[3 << 20:][:5000])
print("half-way", flush=True)
threading.Event().wait()
"""


def test_killed_process_leaves_a_download_that_resumes(
    tmp_path: Path, elsewhere: MakeElsewhere
) -> None:
    data = noise(1, 2, 3, 4, 5)
    model = elsewhere({"weights": data})
    (tmp_path / "manifest").write_bytes(manifests.encode(model.manifest))
    (tmp_path / "outboard").write_bytes(model.outboard.hashes)
    (tmp_path / "data").write_bytes(data)
    root, database = tmp_path / "victim", tmp_path / "victim.db"
    given = [root, database, tmp_path / "manifest", tmp_path / "outboard", tmp_path / "data"]
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, *map(str, given)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half-way\n"
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    state = State(database)
    store = Store(root, state)
    download = begin(store, model)
    assert download.present == 0b00111
    assert download.resumed_bytes == 3 * BLOCK_BYTES
    model.fill(download, range(3, 5))
    finish(download)
    assert store.complete(model.manifest)
    store.close()
    state.close()


def test_models_that_share_blocks_copy_them_here(store: Store, elsewhere: MakeElsewhere) -> None:
    old = elsewhere({"base": noise(1, 2, 3, 4), "readme": b"v1"}, "old")
    new = elsewhere({"base": noise(9, 2, 3, 4) + b"tail", "readme": b"v1"}, "new")
    pull(store, old)
    download = begin(store, new)
    # Blocks of "base" but its first and its tail, and the whole of "readme".
    assert download.present == 0b101110
    assert download.cached_bytes == 3 * BLOCK_BYTES + 2
    model_blocks = iter([0, 4])
    new.fill(download, model_blocks)
    finish(download)
    assert store.complete(new.manifest)
    assert store.complete(old.manifest)


def test_file_that_a_model_holds_twice_is_fetched_once(
    store: Store, elsewhere: MakeElsewhere
) -> None:
    model = elsewhere({"a": noise(1, 2), "b": noise(1, 2), "c": b""})
    download = begin(store, model)
    assert download.same(0) == (2,)
    assert download.target(0) == download.target(2)
    model.fill(download, range(2))
    download.finish_file(0)
    assert download.missing_files() == [2]
    finish(download)
    assert store.complete(model.manifest)


def truncate(path: Path) -> None:
    os.truncate(path, BLOCK_BYTES + 5)


def edit(path: Path) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(10)
        file.write(b"edited")
    # The same size, but a later time, which coarse clocks may not show by themselves.
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


@pytest.mark.parametrize("damage", [truncate, edit])
def test_damaged_stored_file_is_quarantined_and_repaired(
    store: Store,
    elsewhere: MakeElsewhere,
    contents: dict[str, bytes],
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    model = elsewhere(contents)
    pull(store, model)
    directory = store.lay_out(model.manifest.id, model.manifest, "m", None)
    victim = directory / "sub" / "weights.safetensors"
    damage(victim)
    weights = next(e for e in model.manifest.files if e.path == "sub/weights.safetensors")
    first = model.manifest.layout.blocks_of_file(model.manifest.files.index(weights)).start
    assert store.locate(model.manifest, first) is None
    assert not store.complete(model.manifest)
    assert "quarantine" in caplog.text
    assert "sub/weights.safetensors" in caplog.text
    assert store.held() == []
    download = begin(store, model)
    missing = every_block(model.manifest) & ~download.present
    # Its good blocks are used again.
    assert 0 < missing.bit_count() < 4
    model.fill(download, (b for b in range(model.manifest.block_count) if missing >> b & 1))
    finish(download)
    assert store.complete(model.manifest)
    assert store.lay_out(model.manifest.id, model.manifest, "m", None) == directory
    assert victim.read_bytes() == contents["sub/weights.safetensors"]
    assert store.usage().partial_bytes == 0


def test_touched_file_is_hashed_again_and_kept(
    store: Store, elsewhere: MakeElsewhere, contents: dict[str, bytes]
) -> None:
    model = elsewhere(contents)
    pull(store, model)
    for entry in model.manifest.files:
        os.utime(store.file(entry.digest), ns=(1, 1))
    assert store.locate(model.manifest, 0) is None
    assert store.complete(model.manifest)
    assert store.locate(model.manifest, 0) is not None


def test_lost_database_costs_no_byte(
    tmp_path: Path, elsewhere: MakeElsewhere, contents: dict[str, bytes]
) -> None:
    model = elsewhere(contents)
    state = State(tmp_path / "one.db")
    store = Store(tmp_path / "m", state)
    pull(store, model)
    store.close()
    state.close()
    state = State(tmp_path / "two.db")
    store = Store(tmp_path / "m", state)
    assert store.held() == [model.manifest.id]
    store.close()
    state.close()


def test_manifest_whose_hashes_contradict_is_refused_at_the_end(
    store: Store, stop: threading.Event
) -> None:
    data = noise(1, 2)
    outboard = Outboard(hash_blocks(memoryview(data)))
    entry = FileEntry("weights", len(data), outboard.digest, (outboard.digest,))
    manifest = Manifest((entry,), outboard.digest, 2)
    with store.open_download(manifest, outboard, ignore, stop) as download:
        for block in range(2):
            download.write(block, data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES])
        with pytest.raises(ManifestError, match="contradict"):
            download.finish_file(0)
    assert store.usage().partial_bytes == store.usage().content_bytes == 0


def test_partial_file_that_somebody_made_longer_is_cut_and_loses_nothing(
    store: Store, elsewhere: MakeElsewhere
) -> None:
    model = elsewhere({"weights": noise(1, 2)})
    with begin(store, model) as download:
        model.fill(download)
        with download.target(0).path.open("ab") as file:
            file.write(b"more")
        with pytest.raises(DiskError):
            download.finish_file(0)
    with begin(store, model) as download:
        assert download.resumed_bytes == model.manifest.size_bytes
        finish(download)
    assert store.complete(model.manifest)


def test_check_of_a_whole_file_ends_when_the_pull_is_stopped(
    store: Store, elsewhere: MakeElsewhere, stop: threading.Event
) -> None:
    model = elsewhere({"weights": noise(1, 2)})
    model.give(store)
    with store.open_download(model.manifest, model.outboard, ignore, stop) as download:
        model.fill(download)
        stop.set()
        with pytest.raises(StoppedError):
            download.finish_file(0)
    with begin(store, model) as download:
        assert download.resumed_bytes == model.manifest.size_bytes


def test_file_finished_too_early_keeps_what_it_has(
    store: Store, elsewhere: MakeElsewhere, stop: threading.Event
) -> None:
    model = elsewhere({"weights": noise(1, 2)})
    with begin(store, model) as download:
        model.fill(download, range(1))
        with pytest.raises(LocalError, match="pull again"):
            download.finish_file(0)
    with begin(store, model) as download:
        assert download.present == 1


def test_block_that_comes_after_its_file_is_whole_changes_nothing(
    store: Store, elsewhere: MakeElsewhere
) -> None:
    model = elsewhere({"weights": noise(1, 2), "more": noise(3)})
    with begin(store, model) as download:
        model.fill(download)
        download.finish_file(1)
        download.finish_file(1)
        download.write(1, model.block(1))
    assert store.locate(model.manifest, 1) is not None


def test_stopping_while_verifying_lets_the_download_be_opened_again(
    store: Store, elsewhere: MakeElsewhere, contents: dict[str, bytes], stop: threading.Event
) -> None:
    model = elsewhere(contents)
    with begin(store, model) as first:
        model.fill(first)
    stop.set()
    with pytest.raises(StoppedError):
        store.open_download(model.manifest, model.outboard, ignore, stop)
    with begin(store, model) as second:
        assert second.present == every_block(model.manifest)


def test_object_with_other_bytes_is_refused_and_a_damaged_one_dropped(
    store: Store, elsewhere: MakeElsewhere, contents: dict[str, bytes]
) -> None:
    model = elsewhere(contents)
    data = model.store.get_object(model.manifest.id)
    with pytest.raises(ManifestError):
        store.put_object(model.manifest.id, data + b" ")
    store.put_object(model.manifest.id, data)
    assert store.has_object(model.manifest.id)
    assert store.manifest(model.manifest.id) == model.manifest
    path = store.root / ".dreamer" / "objects" / model.manifest.id.hex()
    path.write_bytes(data[:-1])
    assert store.get_object(model.manifest.id) is None
    assert not store.has_object(model.manifest.id)
    assert store.manifest(model.manifest.id) is None


def test_closed_download_leaves_the_file_to_the_next_one(
    store: Store, elsewhere: MakeElsewhere
) -> None:
    """The thread that was to finish it may begin only when the pull was cancelled already."""
    model = elsewhere({"weights": noise(1, 2)})
    with begin(store, model) as first:
        model.fill(first)
    with begin(store, model) as second:
        with pytest.raises(StoppedError):
            first.finish_file(0)
        finish(second)
    assert store.complete(model.manifest)
