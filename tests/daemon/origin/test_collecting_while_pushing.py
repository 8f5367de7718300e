"""A push and a garbage collection at the same time: in whatever order their steps come.

The push is the real one, in a thread that waits before each call of the bucket; the collection is
the real one, too, carried out by its real driver a command at a time. The bucket behaves as S3
does: what was written is seen by every later reading, and a condition is checked with the writing.
"""

import hashlib
import os
import threading
from dataclasses import dataclass
from itertools import groupby
from random import Random

import pytest

from dreamer.daemon.origin import upload as upload_module
from dreamer.daemon.origin.checks import Checks
from dreamer.daemon.origin.faults import OriginConflictError, OriginMissingError
from dreamer.daemon.origin.forms import Forms
from dreamer.daemon.origin.garbage import Collector
from dreamer.daemon.origin.lease import PushLease
from dreamer.daemon.origin.listing import Listed
from dreamer.daemon.origin.multipart import RememberedUploads, Sending
from dreamer.daemon.origin.retry import Retry
from dreamer.daemon.origin.tally import Tally
from dreamer.daemon.origin.upload import Upload
from dreamer.daemon.state import State
from dreamer.daemon.store.store import Store
from dreamer.protocol.garbage import collect as collect_module
from dreamer.protocol.garbage.collect import Collection, Order
from dreamer.protocol.garbage.commands import ListKeys, ListUploads, Pause, ReadClock
from dreamer.protocol.garbage.names import RoomNames
from dreamer.protocol.ids import RoomId
from dreamer.protocol.origin import OriginAddress

NOW = 1_800_000_000.0
DAY_S = 86_400.0
ROOM = RoomId(b"R" * 32)
ADDRESS = OriginAddress("bucket", "lab", None)


class NeverWaits(threading.Event):
    """A wish to stop that never comes, and for which nobody waits in earnest."""

    def wait(self, timeout=None):
        return False


class MemoryS3:
    """The calls that the two make, over a dictionary; ``before`` is called ahead of each."""

    def __init__(self):
        self.keys = {}
        self.before = lambda: None
        self._version = 0

    def _write(self, key, data, at=NOW):
        self._version += 1
        self.keys[key] = (bytes(data), f'"{self._version}"', at)
        return self.keys[key][1]

    def seed(self, key, data, days_old):
        self._write(key, data, NOW - days_old * DAY_S)

    def put(self, key, data, by=None):
        self.before()
        self._write(key, data)
        return hashlib.md5(data, usedforsecurity=False).hexdigest()

    def replace(self, key, data, etag):
        found = self.keys.get(key)
        if (found[1] if found else None) != etag:
            raise OriginConflictError(f"{key} was changed")
        return self._write(key, data)

    def size(self, key):
        self.before()
        return len(self.keys[key][0]) if key in self.keys else None

    def known_size(self, key):
        self.before()
        if key not in self.keys:
            raise OriginMissingError(f"{key} is not there")
        return len(self.keys[key][0])

    def get(self, key, offset, length):
        self.before()
        if key not in self.keys:
            raise OriginMissingError(f"{key} is not there")
        yield self.keys[key][0][offset : offset + length]

    def read_whole(self, key, etag):
        if key not in self.keys:
            raise OriginMissingError(f"{key} is not there")
        return self.keys[key][:2]

    def listed(self, prefix):
        found = [(key, value) for key, value in sorted(self.keys.items()) if key.startswith(prefix)]
        return iter([Listed(key, len(value[0]), value[2]) for key, value in found])

    def open_uploads(self, prefix):
        return iter(())

    def delete_all(self, keys):
        for key in keys:
            self.keys.pop(key, None)


class StoredThere:
    """As much of an origin as a collector uses."""

    def __init__(self, bucket):
        self.bucket = bucket

    def fetch_object(self, digest, stop):
        return self.bucket.read_whole(ADDRESS.object_key(digest), None)[0]


class StepByStep:
    """Work in a thread that goes on by one call of the bucket whenever it is told to."""

    def __init__(self, work):
        self._go = threading.Semaphore(0)
        self._still = threading.Semaphore(0)
        self._work = work
        self.done = False
        self.error = None
        self.steps = 0

    def start(self):
        threading.Thread(target=self._run, daemon=True).start()
        assert self._still.acquire(timeout=10)

    def gate(self):
        self._still.release()
        assert self._go.acquire(timeout=10)

    def step(self):
        self.steps += 1
        self._go.release()
        assert self._still.acquire(timeout=10)

    def _run(self):
        try:
            self._work()
        except BaseException as error:  # told by the thread that waits for it
            self.error = error
        self.done = True
        self._still.release()


@dataclass
class Bench:
    """One bucket with an old file that nobody names, and a push of a model that has that file."""

    store: Store
    manifest: object
    lasting: object

    def run(self, schedule):
        """Let push (P) and collection (C) take steps as scheduled, then run to their ends."""
        bucket = MemoryS3()
        shared, _ = self.manifest.files
        bucket.seed(ADDRESS.file_key(shared.digest), self.data(shared), days_old=30)
        self.put_whole(bucket, self.lasting)
        names = {self.lasting.id: None}
        serial = [1]

        def push_all():
            push.gate()
            names[self.manifest.id] = None
            serial[0] += 1
            self.upload(bucket, serial[0])

        push = StepByStep(push_all)
        collecting = self.collection(bucket, lambda: RoomNames(serial[0], dict(names)))
        taken = self._interleave(schedule, push, collecting, bucket)
        if push.error:
            raise push.error
        return bucket, taken

    def _interleave(self, schedule, push, collecting, bucket):
        owner = threading.get_ident()

        def before():
            # Calls of the collection are steps already.
            name = threading.current_thread().name
            if threading.get_ident() != owner and not name.startswith("dreamer-collect"):
                push.gate()

        bucket.before = before
        push.start()
        taken = []
        collected = False

        def collect():
            nonlocal collected
            collected = next(collecting, "end") == "end"
            taken.append("C")

        for turn in schedule:
            if turn == "P" and not push.done:
                push.step()
                taken.append("P")
            elif turn == "C" and not collected:
                collect()
        while not collected:
            collect()
        while not push.done:
            push.step()
            taken.append("P")
        return "".join(taken)

    def collection(self, bucket, names):
        """Yield after each step of a collection that has to do with the push."""
        stop = NeverWaits()
        collector = Collector(StoredThere(bucket), names, stop)
        steps = Collection(Order(ROOM, ADDRESS, os.urandom(16), NOW, DAY_S, apply=True)).run()
        command = next(steps)
        while True:
            if self._matters(command):
                yield command
            try:
                command = steps.send(collector.answers.to(command))
            except StopIteration:
                return

    def _matters(self, command):
        if isinstance(command, ListKeys):
            return command.prefix in ("lab/files/", "lab/pushes/")
        return not isinstance(command, ReadClock | Pause | ListUploads)

    def upload(self, bucket, serial):
        stop, retry = NeverWaits(), Retry(0.0)
        held = PushLease(
            *(bucket, ADDRESS, ROOM, os.urandom(16), serial),
            retry=retry,
            stop=stop,
            clock=lambda: 0.0,
        )
        sending = Sending(
            *(bucket, retry, Checks(), RememberedUploads(), Tally(lambda progress: None), stop),
            lease=held,
        )
        forms = Forms(lambda: bucket, ADDRESS, retry)
        Upload(sending, ADDRESS, forms, self.store).run(self.manifest.id, self.manifest)

    def data(self, entry):
        return self.store.file(entry.digest).read_bytes()

    def put_whole(self, bucket, manifest):
        for entry in manifest.files:
            bucket.seed(ADDRESS.file_key(entry.digest), self.data(entry), days_old=30)
        for digest in (manifest.outboard, manifest.id):
            bucket.seed(ADDRESS.object_key(digest), self.store.get_object(digest), days_old=30)

    def lacking(self, bucket):
        """Return what the bucket lacks of the two models."""
        return [
            key
            for manifest in (self.manifest, self.lasting)
            for key in (
                *(ADDRESS.file_key(entry.digest) for entry in manifest.files),
                ADDRESS.object_key(manifest.outboard),
                ADDRESS.object_key(manifest.id),
            )
            if key not in bucket.keys
        ]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    state = State(home / "state.db")
    store = Store(home / "models", state)
    manifests = []
    for name, files in {"pushed": ("a", "b"), "lasting": ("c",)}.items():
        (home / name).mkdir()
        for file in files:
            (home / name / f"{file}.bin").write_bytes(Random(file).randbytes(5000))
        manifests.append(store.ingest(home / name, lambda done, total: None, NeverWaits())[1])
    yield Bench(store, *manifests)
    store.close()
    state.close()


@pytest.fixture(autouse=True)
def one_step_at_a_time(monkeypatch):
    monkeypatch.setattr(upload_module, "ORIGIN_PARALLEL_REQUESTS", 1)
    monkeypatch.setattr(collect_module, "GARBAGE_BATCH_KEYS", 1)


def switching(first, second, most_first, most_second):
    """Yield every schedule with three changes of whose turn it is."""
    for a in range(most_first + 1):
        for b in range(1, most_second + 1):
            for c in range(most_first - a + 1):
                yield first * a + second * b + first * c + second * (most_second - b)


def test_the_garbage_goes_when_nobody_pushes(bench):
    bucket, taken = bench.run("C" * 100)
    assert set(bench.lacking(bucket)) == set()
    assert [turn for turn, _ in groupby(taken)] == ["C", "P"]


def test_no_order_of_steps_loses_what_a_push_relies_on(bench):
    _, taken = bench.run("")
    collects, pushes = taken.count("C"), taken.count("P")
    waited = 0
    runs = [*switching("P", "C", pushes, collects), *switching("C", "P", collects, pushes)]
    # All of them take a minute.
    for schedule in runs[::3]:
        bucket, taken = bench.run(schedule)
        assert bench.lacking(bucket) == [], schedule
        waited += taken.count("P") > pushes
    # In some of them the push did find a collection under way.
    assert waited > 10


def test_orders_by_chance_lose_nothing_either(bench):
    rng = Random(6)
    for _ in range(300):
        schedule = "".join(rng.choices("PC", weights=(1, rng.choice((0.5, 1, 2))), k=80))
        bucket, _ = bench.run(schedule)
        assert bench.lacking(bucket) == [], schedule


def breakages():
    """Each safeguard left out: the lease, the last look, the collection's second look."""
    yield "no lease", lambda monkeypatch: monkeypatch.setattr(PushLease, "hold", lambda *at: None)
    yield "no last look", lambda monkeypatch: monkeypatch.setattr(PushLease, "settle", lambda at: 0)

    def look_once(monkeypatch):
        look = Collection._look
        seen = {}

        def once(self):
            if self not in seen:
                seen[self] = yield from look(self)
            return seen[self]

        monkeypatch.setattr(Collection, "_look", once)

    yield "no second look", look_once


@pytest.mark.parametrize(("what", "breaking"), list(breakages()))
def test_without_any_one_safeguard_some_order_loses_content(bench, monkeypatch, what, breaking):
    breaking(monkeypatch)
    _, taken = bench.run("")
    collects, pushes = taken.count("C"), taken.count("P")
    schedules = list(switching("C", "P", collects, pushes))
    # Those that lose lie close together: tried in their order, most of them come before the first.
    Random(1).shuffle(schedules)
    assert any(bench.lacking(bench.run(schedule)[0]) for schedule in schedules), what
