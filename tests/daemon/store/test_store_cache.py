"""The store as a cache: bounded, the least recently used goes, and nothing that must stay."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from disk_use import allocated

from dreamer.daemon.state import State
from dreamer.daemon.store.pins import Pin
from dreamer.daemon.store.quota import StoreLimits, room_for
from dreamer.daemon.store.store import Store
from dreamer.protocol.errors import DiskError, LocalError
from dreamer.protocol.ids import RoomId
from dreamer.protocol.limits import BLOCK_BYTES

MIB = BLOCK_BYTES
LONG_AGO = time.time() - 100_000
MODEL = 4 * MIB
QUOTA = 10 * MIB

MakeElsewhere = Callable[..., Any]
WriteModel = Callable[..., Path]


def ignore(done: int, total: int) -> None:
    pass


def weights(seed: int, size: int = MODEL) -> dict[str, bytes]:
    return {"weights": random.Random(seed).randbytes(size)}


@contextmanager
def cache(tmp_path: Path, name: str = "a", **limits: Any) -> Iterator[Store]:
    state = State(tmp_path / f"{name}-cache.db")
    store = Store(tmp_path / "cache", state, StoreLimits(**{"quota_bytes": QUOTA, **limits}))
    try:
        yield store
    finally:
        store.close()
        state.close()


def begin(store: Store, model: Any) -> Any:
    model.give(store)
    return store.open_download(model.manifest, model.outboard, ignore, threading.Event())


def pull(store: Store, model: Any, used: float | None = LONG_AGO) -> None:
    with begin(store, model) as download:
        model.fill(download)
        for index in download.missing_files():
            download.finish_file(index)
    store.used(model.manifest.id, used)


def here(store: Store, *models: Any) -> list[bool]:
    return [store.complete(model.manifest) for model in models]


def test_model_used_longest_ago_goes_for_the_next(tmp_path: Path, elsewhere: MakeElsewhere) -> None:
    a, b, c = (elsewhere(weights(seed), str(seed)) for seed in (1, 2, 3))
    gone: list[bytes] = []
    with cache(tmp_path) as store:
        store.eviction.on_evicted = gone.append
        pull(store, a, LONG_AGO)
        pull(store, b, LONG_AGO - 500)
        directory = store.lay_out(b.manifest.id, b.manifest, "b", None)
        store.uses.close()
        store.used(b.manifest.id, LONG_AGO - 500)
        pull(store, c)
        assert here(store, a, b, c) == [True, False, True]
        assert gone == [b.manifest.id]
        assert not directory.exists()
        assert store.usage().used_bytes <= QUOTA
        assert store.known() == sorted([a.manifest.id, c.manifest.id])


@pytest.mark.parametrize("reason", ["pinned", "alias", "kept", "pulled", "young"])
def test_what_must_stay_stays_and_the_refusal_names_it(
    tmp_path: Path, elsewhere: MakeElsewhere, reason: str
) -> None:
    a, b = elsewhere(weights(1, 6 * MIB), "1"), elsewhere(weights(2, 6 * MIB), "2")
    with cache(tmp_path) as store:
        name = a.manifest.id
        if reason == "pulled":
            begin(store, a)
        else:
            pull(store, a, None if reason == "young" else LONG_AGO)
        if reason == "kept":
            store.keep(name)
        if reason == "pinned":
            store.pins.put(Pin(name))
        if reason == "alias":
            store.pins.put(Pin(name, "prod", RoomId(bytes(32)), "lab"))
        words = {"pinned": "by hand", "alias": "by alias prod in lab", "young": "just fetched"}
        with pytest.raises(DiskError, match=words.get(reason, "in use")) as refused:
            begin(store, b)
        assert name.hex()[:8] in str(refused.value)
        assert "quota of 10.5 MB" in str(refused.value)
        assert list((tmp_path / "cache/.dreamer/partial").glob(f"{b.manifest.id.hex()}/*")) == []
        store.let_go(name)


def test_what_was_let_go_may_go(tmp_path: Path, elsewhere: MakeElsewhere) -> None:
    a, b = elsewhere(weights(1, 6 * MIB), "1"), elsewhere(weights(2, 6 * MIB), "2")
    with cache(tmp_path) as store:
        pull(store, a)
        pin = Pin(a.manifest.id)
        store.pins.put(pin)
        store.pins.drop(pin)
        store.keep(a.manifest.id)
        store.let_go(a.manifest.id)
        pull(store, b)
        assert here(store, a, b) == [False, True]


def test_model_pushed_here_stays_until_it_is_elsewhere(
    tmp_path: Path, elsewhere: MakeElsewhere, write_model: WriteModel
) -> None:
    with cache(tmp_path) as store:
        source = write_model(weights(1, 6 * MIB))
        pushed, _ = store.ingest(source, ignore, threading.Event())
        store.used(pushed, LONG_AGO)
        b = elsewhere(weights(2, 6 * MIB), "2")
        with pytest.raises(DiskError, match="not known to be elsewhere"):
            begin(store, b)
        store.pins.copied(pushed)
        pull(store, b)
        assert store.known() == [b.manifest.id]


def test_expired_model_goes_first_and_without_any_quota(
    tmp_path: Path, elsewhere: MakeElsewhere
) -> None:
    a, b, c = (elsewhere(weights(seed), str(seed)) for seed in (1, 2, 3))
    with cache(tmp_path) as store:
        pull(store, a)
        pull(store, b, None)
        store.eviction.expires = {b.manifest.id: time.time() - 1}
        pull(store, c)
        assert here(store, a, b, c) == [True, False, True]


def test_without_a_quota_nothing_goes_by_itself(tmp_path: Path, elsewhere: MakeElsewhere) -> None:
    with cache(tmp_path, quota_bytes=0) as store:
        pull(store, elsewhere(weights(1), "1"))
        (only,) = store.eviction.candidates(set())
        assert only.stays is not None
        assert "no quota" in only.stays.value


def test_model_larger_than_the_quota_is_refused_for_good(
    tmp_path: Path, elsewhere: MakeElsewhere
) -> None:
    with cache(tmp_path) as store:
        pull(store, elsewhere(weights(1), "1"))
        with pytest.raises(LocalError, match="raise quota_gib") as refused:
            begin(store, elsewhere(weights(2, 11 * MIB), "2"))
        assert not isinstance(refused.value, DiskError)
        assert len(store.held()) == 1


def test_push_over_the_quota_is_refused_before_a_byte_is_copied(
    tmp_path: Path, elsewhere: MakeElsewhere, write_model: WriteModel
) -> None:
    with cache(tmp_path) as store:
        begin(store, elsewhere(weights(1, 6 * MIB), "1"))
        seen: list[int] = []
        with pytest.raises(DiskError, match="quota"):
            store.ingest(
                write_model(weights(2, 5 * MIB)),
                lambda done, total: seen.append(done),
                threading.Event(),
            )
        assert seen == []
        assert store.usage().content_bytes == 0


def test_half_fetched_model_is_given_up_like_any_other(
    tmp_path: Path, elsewhere: MakeElsewhere
) -> None:
    a, b = elsewhere(weights(1, 6 * MIB), "1"), elsewhere(weights(2, 6 * MIB), "2")
    with cache(tmp_path) as store:
        with begin(store, a) as download:
            a.fill(download, range(2))
        store.used(a.manifest.id, LONG_AGO)
        pull(store, b)
        assert store.known() == [b.manifest.id]
        assert list((tmp_path / "cache/.dreamer/partial").iterdir()) == []


def test_file_of_a_victim_that_the_new_model_needs_is_kept(
    tmp_path: Path, elsewhere: MakeElsewhere
) -> None:
    shared = {"tokenizer": b"t" * (2 * MIB)}
    a = elsewhere({**weights(1, 5 * MIB), **shared}, "1")
    b = elsewhere({**weights(2, 5 * MIB), **shared}, "2")
    with cache(tmp_path) as store:
        pull(store, a)
        with begin(store, b) as download:
            assert download.cached_bytes == 2 * MIB
            assert not store.complete(a.manifest)


def test_served_model_is_in_use_for_a_while(tmp_path: Path, elsewhere: MakeElsewhere) -> None:
    a, b = elsewhere(weights(1, 6 * MIB), "1"), elsewhere(weights(2, 6 * MIB), "2")
    with cache(tmp_path) as store:
        pull(store, a)
        last_used = store.uses.last(a.manifest.id)
        assert store.locate(a.manifest, 0) is not None
        with pytest.raises(DiskError, match="in use"):
            begin(store, b)
        # What others are given says nothing about what this machine needs.
        assert store.uses.last(a.manifest.id) == last_used


def test_four_pulls_at_once_never_take_more_than_the_quota(
    tmp_path: Path, elsewhere: MakeElsewhere
) -> None:
    models = [elsewhere(weights(seed, 3 * MIB), str(seed)) for seed in range(1, 9)]
    ended = threading.Event()
    seen: list[int] = []
    with cache(tmp_path, grace_s=0.0) as store:

        def sample() -> None:
            while not ended.is_set():
                seen.append(allocated(tmp_path / "cache"))

        def work(mine: list[Any]) -> None:
            for model in mine:
                while True:
                    try:
                        pull(store, model)
                        break
                    except DiskError:
                        continue

        sampler = threading.Thread(target=sample)
        sampler.start()
        pulls = [threading.Thread(target=work, args=(models[n::4],)) for n in range(4)]
        for one in pulls:
            one.start()
        for one in pulls:
            one.join(60)
            assert not one.is_alive()
        ended.set()
        sampler.join()
        assert max(seen) <= QUOTA
        assert max(seen) > 6 * MIB


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, MIB, 300 * MIB + 1])
def test_room_for_a_file_is_more_than_its_size_and_little_more(size: int) -> None:
    assert size <= room_for(size) <= size * 1.001 + 3 * 4096


def test_leftovers_are_listed_first_and_removed_on_demand(
    tmp_path: Path, elsewhere: MakeElsewhere
) -> None:
    a, b = elsewhere(weights(1), "1"), elsewhere(weights(2), "2")
    with cache(tmp_path, quota_bytes=0) as store:
        pull(store, a)
        with begin(store, b) as download:
            b.fill(download, range(1))
        inner = tmp_path / "cache" / ".dreamer"
        (inner / "files" / ("ab" * 32)).write_bytes(b"nobody names me")
        (inner / "objects" / ("cd" * 32)).write_bytes(b"nor me")
        (inner / "objects" / ("ef" * 32)).write_bytes(b"but me")
        (inner / "quarantine" / ("ab" * 32)).write_bytes(b"damaged")
        (inner / "staging" / "99-dead").mkdir()
        keep = [bytes.fromhex("ef" * 32)]
        assert [one.kind for one in store.collect(keep, 3600, True).found] == ["staging"]
        listed = store.collect(keep, 0, False)
        assert sorted(one.kind for one in listed.found) == [
            "file",
            "object",
            "partial",
            "quarantine",
        ]
        assert not listed.removed
        assert store.collect(keep, 0, True).found == listed.found
        assert store.collect(keep, 0, False).found == ()
        assert store.complete(a.manifest)
        assert (inner / "objects" / ("ef" * 32)).exists()


def test_running_download_is_no_leftover(tmp_path: Path, elsewhere: MakeElsewhere) -> None:
    model = elsewhere(weights(1), "1")
    with cache(tmp_path) as store, begin(store, model) as download:
        model.fill(download, range(2))
        assert store.collect((), 0, True).found == ()
        model.fill(download, range(2, 4))
        download.finish_file(0)
        assert store.complete(model.manifest)


def test_verification_finds_what_the_time_of_change_hides(
    tmp_path: Path, elsewhere: MakeElsewhere
) -> None:
    model = elsewhere({**weights(1), "config": b"{}"}, "1")
    with cache(tmp_path) as store:
        pull(store, model)
        path = store.file(model.manifest.files[1].digest)
        before = path.stat()
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.write(b"\xff")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert store.complete(model.manifest)
        counted: list[int] = []
        bad = store.verify(model.manifest.id, counted.append, threading.Event())
        assert [entry.path for entry in bad] == ["weights"]
        assert sum(counted) == model.manifest.size_bytes
        assert not store.complete(model.manifest)
        with begin(store, model) as download:
            # All but the one block that is damaged comes from quarantine.
            assert download.cached_bytes == model.manifest.size_bytes - MIB


def test_usage_tells_where_the_bytes_are(tmp_path: Path, elsewhere: MakeElsewhere) -> None:
    shared = {"tokenizer": b"t" * MIB}
    a = elsewhere({**weights(1), **shared}, "1")
    b = elsewhere({**weights(2, MIB), **shared}, "2")
    with cache(tmp_path) as store:
        pull(store, a)
        pull(store, b)
        found = store.breakdown()
        assert found.shared_bytes == MIB
        assert MODEL <= found.models[a.manifest.id] < MODEL + 3 * 4096
        assert MIB <= found.models[b.manifest.id] < MIB + 3 * 4096
        own = sum(found.models.values())
        assert found.used_bytes - own - found.shared_bytes < 3 * 4096
        assert (found.unnamed_bytes, found.partial_bytes, found.copies_bytes) == (0, 0, 0)
        (one, _) = store.inventory.models()
        assert one.whole
