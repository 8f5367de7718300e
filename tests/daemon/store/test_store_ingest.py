import os
import pickle
import socket
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from dreamer.daemon.process_lock import ProcessLock
from dreamer.daemon.state import State
from dreamer.daemon.store.store import Store
from dreamer.protocol.errors import InputError, LocalError, StoppedError
from dreamer.protocol.limits import BLOCK_BYTES

WriteModel = Callable[..., Path]


def ignore(done: int, total: int) -> None:
    pass


def staged(store: Store) -> list[Path]:
    return list((store.root / ".dreamer" / "staging").glob("*/*"))


def stored(store: Store) -> list[Path]:
    return list((store.root / ".dreamer" / "files").iterdir())


def test_directory_becomes_a_model(
    store: Store, write_model: WriteModel, contents: dict[str, bytes], stop: threading.Event
) -> None:
    seen: list[tuple[int, int]] = []
    source = write_model(contents)
    manifest_id, manifest = store.ingest(source, lambda *args: seen.append(args), stop)
    assert {entry.path: entry.digest for entry in manifest.files} == {
        path: blake3(data).digest() for path, data in contents.items()
    }
    total = sum(map(len, contents.values()))
    assert seen[-1] == (total, total)
    assert store.manifest(manifest_id) == manifest
    assert store.complete(manifest)
    assert store.held() == [manifest_id]
    assert staged(store) == []
    for entry in manifest.files:
        assert store.file(entry.digest).read_bytes() == contents[entry.path]
        assert store.file(entry.digest).stat().st_mode & 0o777 == 0o444


def test_outboard_holds_the_hash_of_every_block(
    store: Store, write_model: WriteModel, contents: dict[str, bytes], stop: threading.Event
) -> None:
    _, manifest = store.ingest(write_model(contents), ignore, stop)
    outboard = store.outboard(manifest)
    assert outboard is not None
    for block in range(manifest.block_count):
        span = manifest.layout.span(block)
        data = contents[manifest.files[span.file_index].path]
        assert outboard.matches(block, data[span.offset : span.offset + span.length])


def test_same_content_gives_the_same_id_and_is_stored_once(
    store: Store, write_model: WriteModel, contents: dict[str, bytes], stop: threading.Event
) -> None:
    first, _ = store.ingest(write_model(contents, "one"), ignore, stop)
    before = store.usage().content_bytes
    second, _ = store.ingest(write_model(contents, "two"), ignore, stop)
    assert first == second
    assert store.usage().content_bytes == before


def test_single_file_becomes_a_model(
    store: Store, write_model: WriteModel, stop: threading.Event
) -> None:
    source = write_model({"tiny.gguf": b"GGUF"})
    _, manifest = store.ingest(source / "tiny.gguf", ignore, stop)
    assert [entry.path for entry in manifest.files] == ["tiny.gguf"]


def test_source_reached_through_a_link_is_taken(
    store: Store, write_model: WriteModel, tmp_path: Path, stop: threading.Event
) -> None:
    (tmp_path / "alias").symlink_to(write_model({"a": b"1"}))
    _, manifest = store.ingest(tmp_path / "alias", ignore, stop)
    assert manifest.size_bytes == 1


def link_file(root: Path) -> None:
    (root / "link").symlink_to(root / "a")


def link_directory(root: Path) -> None:
    (root / "link").symlink_to("/")


def pipe(root: Path) -> None:
    os.mkfifo(root / "pipe")


def unix_socket(root: Path) -> None:
    # By way of a file descriptor, for temporary paths can be too long for a socket.
    directory = os.open(root, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"/proc/self/fd/{directory}/sock")
    os.close(directory)


@pytest.mark.parametrize("add", [link_file, link_directory, pipe, unix_socket])
def test_links_and_special_files_are_refused(
    store: Store, write_model: WriteModel, stop: threading.Event, add: Callable[[Path], None]
) -> None:
    source = write_model({"a": b"1"})
    add(source)
    with pytest.raises(InputError, match=r"link|neither"):
        store.ingest(source, ignore, stop)
    assert stored(store) == []


def test_directory_without_files_is_refused(
    store: Store, tmp_path: Path, stop: threading.Event
) -> None:
    (tmp_path / "nothing" / "inside").mkdir(parents=True)
    with pytest.raises(InputError, match="no file"):
        store.ingest(tmp_path / "nothing", ignore, stop)


def test_source_that_is_not_there_is_named(
    store: Store, tmp_path: Path, stop: threading.Event
) -> None:
    with pytest.raises(InputError, match="nowhere"):
        store.ingest(tmp_path / "nowhere", ignore, stop)


def test_store_does_not_take_in_itself(store: Store, stop: threading.Event) -> None:
    with pytest.raises(InputError, match="store itself"):
        store.ingest(store.root, ignore, stop)


@pytest.mark.parametrize("name", [b"bad\xffname", b"CON", b"a\\b"])
def test_name_that_others_cannot_store_is_refused(
    store: Store, write_model: WriteModel, stop: threading.Event, name: bytes
) -> None:
    source = write_model({"a": b"1"})
    os.mknod(os.fsencode(source) + b"/" + name)
    with pytest.raises(InputError, match="path"):
        store.ingest(source, ignore, stop)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weights": [1, 2]}, protocol=4))


def pickled_old(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weights": [1, 2]}, protocol=0))


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("model.pkl", pickled),
        ("model.pkl", pickled_old),
        ("Model.PT", zipped),
        ("pytorch_model.bin", pickled),
        ("pytorch_model.bin", zipped),
    ],
)
def test_pickle_is_refused_unless_allowed(
    store: Store,
    write_model: WriteModel,
    stop: threading.Event,
    name: str,
    write: Callable[[Path], None],
) -> None:
    source = write_model({"a": b"1"})
    write(source / name)
    with pytest.raises(InputError, match="pickle"):
        store.ingest(source, ignore, stop)
    _, manifest = store.ingest(source, ignore, stop, allow_pickle=True)
    assert len(manifest.files) == 2


def test_weights_that_only_look_like_a_pickle_are_taken(
    store: Store, write_model: WriteModel, stop: threading.Event
) -> None:
    source = write_model(
        {"x.bin": b"\x80\x04\xff\xfe" * 99, "y.bin": b"(((", "z.pt": b"", "w.pt": b"PK\x03\x04"}
    )
    _, manifest = store.ingest(source, ignore, stop)
    assert len(manifest.files) == 4


def test_file_that_changes_while_read_is_refused(
    store: Store, write_model: WriteModel, contents: dict[str, bytes], stop: threading.Event
) -> None:
    source = write_model(contents)

    def grow(done: int, total: int) -> None:
        with (source / "sub/weights.safetensors").open("ab") as file:
            file.write(b"more")

    with pytest.raises(InputError, match="changed"):
        store.ingest(source, grow, stop)
    assert staged(store) == stored(store) == []


def test_stopping_leaves_nothing(
    store: Store, write_model: WriteModel, contents: dict[str, bytes], stop: threading.Event
) -> None:
    with pytest.raises(StoppedError):
        store.ingest(write_model(contents), lambda done, total: stop.set(), stop)
    assert staged(store) == stored(store) == []
    assert store.held() == []


def test_what_a_killed_process_left_in_staging_is_swept(tmp_path: Path, state: State) -> None:
    Store(tmp_path / "m", state).close()
    left = tmp_path / "m" / ".dreamer" / "staging" / "12-ab"
    left.mkdir()
    (left / "0").write_bytes(bytes(BLOCK_BYTES))
    store = Store(tmp_path / "m", state)
    assert staged(store) == []
    assert not left.exists()
    store.close()
    assert list(left.parent.iterdir()) == []


def test_store_that_an_older_dreamer_holds_is_refused(tmp_path: Path, state: State) -> None:
    Store(tmp_path / "m", state).close()
    older = ProcessLock(tmp_path / "m" / ".dreamer" / "store.lock", "in use by {pid}")
    with pytest.raises(LocalError, match="older dreamerd"):
        Store(tmp_path / "m", state)
    older.close()
    Store(tmp_path / "m", state).close()


def test_link_in_place_of_the_stores_directory_is_refused(tmp_path: Path, state: State) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / ".dreamer").symlink_to(tmp_path)
    with pytest.raises(LocalError, match="move it away"):
        Store(tmp_path / "m", state)


@pytest.mark.parametrize("forget_stamps", [False, True])
def test_a_manifest_that_lies_about_a_size_does_not_harm_the_file(
    store: Store,
    state: State,
    stop: threading.Event,
    write_model: WriteModel,
    contents: dict[str, bytes],
    forget_stamps: bool,
) -> None:
    _, good = store.ingest(write_model(contents), lambda done, total: None, stop)
    if forget_stamps:
        for entry in good.files:
            state.drop_stamp(entry.digest)
    large = max(good.files, key=lambda entry: entry.size_bytes)
    lying = replace(good, files=(replace(large, size_bytes=large.size_bytes - 1),), block_count=4)
    assert not store.complete(lying)
    assert store.complete(good)
