"""Model directories: laid out as links, repaired, kept apart from what isn't ours, and removed."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dreamer.daemon.store.store import Store
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.errors import InputError, LocalError
from dreamer.protocol.ids import ManifestId

WriteModel = Callable[..., Path]


def ingest(store: Store, source: Path) -> tuple[ManifestId, Manifest]:
    return store.ingest(source, lambda done, total: None, threading.Event())


def holds(directory: Path, contents: dict[str, bytes]) -> bool:
    return all((directory / path).read_bytes() == data for path, data in contents.items())


@pytest.fixture
def other_disk(tmp_path: Path) -> Path:
    """Return a directory on another file system than the store's."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    return shared


def test_model_directory_holds_hard_links(
    store: Store, write_model: WriteModel, contents: dict[str, bytes]
) -> None:
    manifest_id, manifest = ingest(store, write_model(contents))
    directory = store.lay_out(manifest_id, manifest, "Tiny model/7B: v2", None)
    assert directory == store.root / f"Tiny-model-7B-v2-{manifest_id.hex()[:8]}"
    assert holds(directory, contents)
    for entry in manifest.files:
        assert (directory / entry.path).samefile(store.file(entry.digest))
    assert store.lay_out(manifest_id, manifest, "Tiny model/7B: v2", None) == directory


@pytest.mark.parametrize("name", ["", "..", "../../etc", "/", "ü", ".hidden", "x" * 500])
def test_no_name_leads_out_of_the_store(store: Store, write_model: WriteModel, name: str) -> None:
    manifest_id, manifest = ingest(store, write_model({"a": b"1"}))
    directory = store.lay_out(manifest_id, manifest, name, None)
    assert directory.parent == store.root
    assert not directory.name.startswith(".")
    assert holds(directory, {"a": b"1"})


def test_output_may_be_new_or_empty_or_the_same_model(
    store: Store, write_model: WriteModel, contents: dict[str, bytes], tmp_path: Path
) -> None:
    manifest_id, manifest = ingest(store, write_model(contents))
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "a" / "new", tmp_path / "empty", tmp_path / "source"):
        assert store.lay_out(manifest_id, manifest, "m", output) == output
        assert holds(output, contents)


@pytest.mark.parametrize("path", ["other.txt", "config.json", "sub"])
def test_output_that_holds_something_else_is_refused(
    store: Store,
    write_model: WriteModel,
    contents: dict[str, bytes],
    tmp_path: Path,
    path: str,
) -> None:
    manifest_id, manifest = ingest(store, write_model(contents))
    output = tmp_path / "taken"
    output.mkdir()
    (output / path).write_bytes(b"mine")
    with pytest.raises(InputError, match="--output"):
        store.lay_out(manifest_id, manifest, "m", output)
    assert [found.name for found in output.iterdir()] == [path]
    assert (output / path).read_bytes() == b"mine"


def test_output_that_is_a_file_is_refused(
    store: Store, write_model: WriteModel, tmp_path: Path
) -> None:
    manifest_id, manifest = ingest(store, write_model({"a": b"1"}))
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(InputError, match="--output"):
        store.lay_out(manifest_id, manifest, "m", tmp_path / "file")


def test_link_inside_an_output_is_not_followed(
    store: Store, write_model: WriteModel, contents: dict[str, bytes], tmp_path: Path
) -> None:
    manifest_id, manifest = ingest(store, write_model(contents))
    output = store.lay_out(manifest_id, manifest, "m", tmp_path / "out")
    outside = tmp_path / "outside"
    shutil.copytree(output / "sub", outside)
    (outside / "weights.safetensors").chmod(0o644)
    (outside / "weights.safetensors").write_bytes(b"mine")
    shutil.rmtree(output / "sub")
    (output / "sub").symlink_to(outside)
    with pytest.raises(LocalError):
        store.lay_out(manifest_id, manifest, "m", output)
    assert (outside / "weights.safetensors").read_bytes() == b"mine"


def test_directory_that_the_store_made_is_repaired_and_extras_stay(
    store: Store, write_model: WriteModel, contents: dict[str, bytes]
) -> None:
    manifest_id, manifest = ingest(store, write_model(contents))
    directory = store.lay_out(manifest_id, manifest, "m", None)
    (directory / "config.json").unlink()
    shutil.rmtree(directory / "sub")
    (directory / "notes.txt").write_bytes(b"mine")
    assert store.lay_out(manifest_id, manifest, "m", None) == directory
    assert holds(directory, {**contents, "notes.txt": b"mine"})


def test_directory_of_its_user_is_never_repaired(
    store: Store, write_model: WriteModel, contents: dict[str, bytes]
) -> None:
    source = write_model(contents)
    manifest_id, manifest = ingest(store, source)
    assert store.lay_out(manifest_id, manifest, "m", source) == source
    (source / "config.json").write_bytes(b"edited")
    with pytest.raises(InputError, match="--output"):
        store.lay_out(manifest_id, manifest, "m", source)
    assert (source / "config.json").read_bytes() == b"edited"


def test_output_on_another_file_system_is_copied_once(
    store: Store,
    write_model: WriteModel,
    contents: dict[str, bytes],
    other_disk: Path,
    tmp_path: Path,
) -> None:
    manifest_id, manifest = ingest(store, write_model(contents))
    output = other_disk / f"dreamer-test-{os.getpid()}" / "out"
    try:
        store.lay_out(manifest_id, manifest, "m", output)
        assert holds(output, contents)
        before = {path: path.stat().st_ino for path in output.rglob("*")}
        store.lay_out(manifest_id, manifest, "m", output)
        assert {path: path.stat().st_ino for path in output.rglob("*")} == before
        assert [path.name for path in output.parent.iterdir()] == ["out"]
    finally:
        shutil.rmtree(output.parent)


def test_model_that_is_not_whole_is_not_laid_out(
    store: Store, write_model: WriteModel, contents: dict[str, bytes]
) -> None:
    manifest_id, manifest = ingest(store, write_model(contents))
    store.file(manifest.files[0].digest).unlink()
    with pytest.raises(LocalError, match="pull it again"):
        store.lay_out(manifest_id, manifest, "m", None)


def test_forgetting_frees_what_no_other_model_names(
    store: Store, write_model: WriteModel, contents: dict[str, bytes]
) -> None:
    first_id, first = ingest(store, write_model(contents, "first"))
    second_id, second = ingest(store, write_model({**contents, "config.json": b"other"}, "second"))
    directory = store.lay_out(first_id, first, "m", None)
    freed = store.forget(first_id)
    assert not directory.exists()
    assert len(contents["config.json"]) <= freed < 10_000
    assert store.manifest(first_id) is None
    assert store.complete(second)
    assert store.forget(second_id) > 3_000_000
    assert store.usage().content_bytes == 0
    assert list((store.root / ".dreamer" / "objects").iterdir()) == []
    assert store.forget(second_id) == 0


def test_forgetting_leaves_what_its_user_added_or_changed(
    store: Store, write_model: WriteModel, contents: dict[str, bytes], tmp_path: Path
) -> None:
    manifest_id, manifest = ingest(store, write_model(contents))
    directory = store.lay_out(manifest_id, manifest, "m", None)
    (directory / "config.json").unlink()
    (directory / "config.json").write_bytes(b"changed")
    (directory / "sub" / "notes").write_bytes(b"mine")
    kept = store.lay_out(manifest_id, manifest, "m", tmp_path / "chosen")
    store.forget(manifest_id)
    left = sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())
    assert left == ["config.json", "sub/notes"]
    assert holds(kept, contents)


def test_usage_counts_content_partial_and_free(
    store: Store, write_model: WriteModel, contents: dict[str, bytes]
) -> None:
    _, manifest = ingest(store, write_model(contents))
    usage = store.usage()
    assert usage.content_bytes >= manifest.size_bytes
    assert usage.partial_bytes == 0
    assert usage.free_bytes > 0
