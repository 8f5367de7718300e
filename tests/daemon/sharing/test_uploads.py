"""The queue of uploads: what waits, what is tried again, what a restart finds."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dreamer.daemon.origin.faults import OriginBusyError, OriginRefusedError
from dreamer.daemon.origin.tally import UploadProgress, UploadReport
from dreamer.daemon.sharing import uploads as uploads_module
from dreamer.daemon.sharing.upload_queue import DurableUploads, QueuedUpload, UploadQueue
from dreamer.daemon.sharing.uploads import Uploads
from dreamer.daemon.state import State
from dreamer.daemon.store.store import Store
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.ids import ManifestId, RoomId
from dreamer.protocol.origin import parse_origin
from dreamer.protocol.registry.changes import SayStored

ROOM = RoomId(b"r" * 32)
PATIENCE_S = 20.0
REPORT = UploadReport(100, 20, 7, 113)


class Registry:
    """A room's registry that keeps what it is told; away while ``error`` is set."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.error: DreamerError | None = None

    async def change(self, *changes: Any) -> None:
        if self.error is not None:
            raise self.error
        self.said += changes

    async def recall(self) -> None:
        return None


class Room:
    """A room with an origin."""

    def __init__(self) -> None:
        self.room_id = ROOM
        self.card = SimpleNamespace(name="lab", origin="s3://team/p", room_id=ROOM)
        self.registry = Registry()
        self.at_close: list[Callable[[], object]] = []


@dataclass
class Origin:
    """An origin whose attempts end as the script says: an error, or a report."""

    script: list[DreamerError | UploadReport] = field(default_factory=list)
    tried: list[ManifestId] = field(default_factory=list)
    hold: threading.Event | None = None
    address: Any = field(default_factory=lambda: parse_origin("s3://team/p", None))

    def upload(
        self, manifest_id: ManifestId, manifest: Any, store: Any, progress: Any, *a: Any, **k: Any
    ) -> UploadReport:
        self.tried.append(manifest_id)
        progress(UploadProgress(40, 120, 1, 3))
        if self.hold is not None:
            self.hold.wait(PATIENCE_S)
        end = self.script.pop(0) if self.script else REPORT
        if isinstance(end, DreamerError):
            raise end
        return end


@dataclass
class Place:
    """A node's store with a model, and how to make the queue anew over the same database."""

    store: Store
    state: State
    origin: Origin
    item: QueuedUpload
    tasks: TaskSet = field(default_factory=TaskSet)

    def uploads(self) -> Uploads:
        origins: Any = SimpleNamespace(of=lambda card: self.origin)
        return Uploads(self.store, self.state, origins, self.tasks, rng=random.Random(1))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"w" * 100)
    state = State(tmp_path / "state.db")
    store = Store(tmp_path / "models", state)
    made, manifest = store.ingest(tmp_path / "model", lambda *_: None, threading.Event())
    item = QueuedUpload(ROOM, made, "tiny", manifest.size_bytes, None, 1.8e9)
    yield Place(store, state, Origin(), item)
    store.close()
    state.close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads_module, "UPLOAD_RETRY_MIN_S", 0.01)


async def follow(uploads: Uploads, job: Any, wait: Any) -> list[Any]:
    async with asyncio.timeout(PATIENCE_S):
        return [progress async for progress in uploads.follow(job, wait)]


async def test_upload_that_is_done_is_said_in_the_registry_and_forgotten(place: Place) -> None:
    room, uploads = Room(), place.uploads()
    uploads.keep(place.item)
    job = uploads.begin(place.item, room)
    shown = await follow(uploads, job, "try")
    assert job.report == REPORT
    assert (shown[-1].done, shown[-1].parts_done, shown[-1].parts_total) == (40, 1, 3)
    (said,) = room.registry.said
    assert isinstance(said, SayStored)
    assert (said.stored.origin_url, said.stored.stored_bytes) == ("s3://team/p", 113)
    assert uploads.pending() == ()
    assert not uploads.holds(place.item.manifest_id)


async def test_first_failure_ends_what_a_push_waits_for_and_the_upload_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads_module, "UPLOAD_RETRY_MIN_S", 1000.0)
    room, uploads = Room(), place.uploads()
    place.origin.script = [OriginBusyError("away; try again later")]
    uploads.keep(place.item)
    job = uploads.begin(place.item, room)
    await follow(uploads, job, "try")
    assert job.report is None
    (waits,) = uploads.pending()
    assert (waits.attempts, waits.error) == (1, "away; try again later")
    assert not waits.running
    assert 0 < waits.retry_s <= 1000.0
    assert (waits.left_bytes, waits.total_bytes) == (80, 120)
    status = uploads.status()
    assert (status["waiting"], status["left_bytes"]) == (1, 80)
    # Pushed once more, it is tried at once.
    assert uploads.begin(place.item, room) is job
    await follow(uploads, job, "done")
    assert job.report == REPORT
    assert uploads.pending() == ()


async def test_every_failure_is_followed_by_another_attempt(place: Place) -> None:
    room, uploads = Room(), place.uploads()
    place.origin.script = [OriginBusyError("busy"), OriginRefusedError("expired")] * 3
    uploads.keep(place.item)
    job = uploads.begin(place.item, room)
    await follow(uploads, job, "done")
    assert job.report == REPORT
    assert len(place.origin.tried) == 7


async def test_registry_that_is_away_keeps_the_upload_in_the_queue(place: Place) -> None:
    room, uploads = Room(), place.uploads()
    room.registry.error = OriginBusyError("the registry is away")
    uploads.keep(place.item)
    job = uploads.begin(place.item, room)
    await follow(uploads, job, "try")
    assert uploads.pending()[0].error == "the registry is away"
    room.registry.error = None
    await follow(uploads, job, "done")
    assert len(room.registry.said) == 1


async def test_what_was_written_down_is_taken_up_by_the_next_daemon(place: Place) -> None:
    first = place.uploads()
    first.keep(place.item)
    # It was killed before it began.
    room, uploads = Room(), place.uploads()
    uploads.watch(room)
    left = await uploads.drain(time.monotonic() + PATIENCE_S)
    assert left == ()
    assert place.origin.tried == [place.item.manifest_id]
    assert len(room.registry.said) == 1


async def test_failures_are_counted_over_restarts(place: Place) -> None:
    room, uploads = Room(), place.uploads()
    place.origin.script = [OriginBusyError("busy")]
    uploads.keep(place.item)
    job = uploads.begin(place.item, room)
    await follow(uploads, job, "try")
    for end in room.at_close:
        end()
    (row,) = UploadQueue(place.state.database).of_room(ROOM)
    assert (row.attempts, row.error, row.name) == (1, "busy", "tiny")


async def test_room_that_is_closed_keeps_its_queue_and_one_that_is_left_does_not(
    place: Place,
) -> None:
    room, uploads = Room(), place.uploads()
    place.origin.hold = threading.Event()
    uploads.keep(place.item)
    uploads.watch(room)
    (running,) = uploads.pending()
    assert running.name == "tiny"
    for end in room.at_close:
        end()
    place.origin.hold.set()
    assert uploads.pending() == ()
    assert uploads.holds(place.item.manifest_id)
    uploads.forget_room(ROOM)
    assert not uploads.holds(place.item.manifest_id)
    await place.tasks.close()


async def test_model_that_was_removed_here_is_not_waited_for(place: Place) -> None:
    room, uploads = Room(), place.uploads()
    uploads.keep(place.item)
    place.store.forget(place.item.manifest_id)
    job = uploads.begin(place.item, room)
    await follow(uploads, job, "done")
    assert job.report is None
    assert uploads.pending() == ()
    assert place.origin.tried == []
    assert not uploads.holds(place.item.manifest_id)


async def test_draining_ends_at_its_deadline_and_says_what_is_left(place: Place) -> None:
    room, uploads = Room(), place.uploads()
    place.origin.script = [OriginBusyError("busy")] * 10_000
    uploads.keep(place.item)
    uploads.begin(place.item, room)
    (left,) = await uploads.drain(time.monotonic() + 0.2)
    # The deadline may come just as another attempt begins, which has sent nothing yet.
    assert (left.name, left.room) == ("tiny", "lab")
    assert left.left_bytes in (80, 100)
    # And may be cancelled.
    draining = asyncio.ensure_future(uploads.drain(time.monotonic() + 100))
    await asyncio.sleep(0)
    draining.cancel()
    await asyncio.wait([draining])
    assert draining.cancelled()
    await place.tasks.close()


async def test_bug_in_an_upload_does_not_end_the_queue(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    room, uploads = Room(), place.uploads()
    bad: Any = ZeroDivisionError("one over none")

    class Once(Origin):
        def upload(self, *args: Any, **rest: Any) -> UploadReport:
            if not self.tried:
                self.tried.append(args[0])
                raise bad
            return super().upload(*args, **rest)

    place.origin = Once()
    uploads.keep(place.item)
    job = uploads.begin(place.item, room)
    await follow(uploads, job, "done")
    assert job.report == REPORT
    assert "one over none" in caplog.text


def test_ids_of_multipart_uploads_last_and_are_kept_apart_by_place(place: Place) -> None:
    here = DurableUploads(place.state.database, "s3://team/p")
    there = DurableUploads(place.state.database, "s3://other/p")
    here.put("key", "first")
    here.put("key", "second")
    assert (here.get("key"), there.get("key")) == ("second", None)
    there.drop("key")
    assert here.get("key") == "second"
    here.drop("key")
    assert here.get("key") is None


async def test_push_does_not_wait_long_for_an_origin_that_never_answers(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads_module, "UPLOAD_SILENCE_S", 0.05)
    hung = threading.Event()

    class Silent(Origin):
        def upload(self, *args: Any, **rest: Any) -> UploadReport:
            hung.wait(PATIENCE_S)
            return super().upload(*args, **rest)

    place.origin = Silent()
    room, uploads = Room(), place.uploads()
    uploads.keep(place.item)
    job = uploads.begin(place.item, room)
    await follow(uploads, job, "try")
    (waits,) = uploads.pending()
    assert waits.running
    assert "has not answered" in waits.error
    hung.set()
    await follow(uploads, job, "done")
    assert job.report == REPORT
