"""The lease of a push: when it waits for a collection, and when it has to look once more."""

from __future__ import annotations

import hashlib
import threading

import pytest

from dreamer.daemon.origin.faults import OriginBusyError, OriginError, OriginMissingError
from dreamer.daemon.origin.lease import PushLease
from dreamer.daemon.origin.retry import Retry
from dreamer.protocol.errors import InputError, StoppedError
from dreamer.protocol.garbage.keys import collection_key, lease_key
from dreamer.protocol.garbage.lease import Lease, Mark, parse_lease
from dreamer.protocol.ids import Digest, RoomId
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.origin_limits import COLLECTION_DEAD_S, LEASE_REFRESH_S, LEASE_TTL_S

ROOM = RoomId(b"R" * 32)
LAB = OriginAddress("bucket", "lab", None)
PUSH = b"p" * 16
DIGESTS = (Digest(b"a" * 32), Digest(b"b" * 32))


class Clocked(threading.Event):
    """A wish to stop; who waits for it lets the clock go on, and ``then`` happen."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.then = lambda: None

    def wait(self, timeout=None):
        self.now += timeout or 0.0
        self.then()
        return self.is_set()


class Keys:
    """As much of a bucket as a lease uses."""

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}
        self.puts = 0
        self.fails: list[OriginError] = []

    def put(self, key, data, by=None):
        self.puts += 1
        if self.fails:
            raise self.fails.pop(0)
        self.keys[key] = data
        return hashlib.md5(data, usedforsecurity=False).hexdigest()

    def size(self, key):
        return len(self.keys[key]) if key in self.keys else None

    def get(self, key, offset, length):
        if key not in self.keys:
            raise OriginMissingError(f"{key} is not there")
        yield self.keys[key][offset : offset + length]


@pytest.fixture
def keys():
    return Keys()


@pytest.fixture
def stop():
    return Clocked()


@pytest.fixture
def lease(keys, stop):
    return PushLease(
        *(keys, LAB, ROOM, PUSH, 12), retry=Retry(0.0), stop=stop, clock=lambda: stop.now
    )


def collecting(keys, number=1, opened=True):
    mark = Mark(ROOM, bytes([number]) * 16, 1.8e9, 3, opened)
    keys.keys[collection_key(LAB)] = mark.encode()


def test_it_names_what_is_relied_on_and_nothing_more_is_done_when_nobody_collects(keys, lease):
    lease.hold(DIGESTS)
    assert parse_lease(keys.keys[lease_key(LAB, ROOM, PUSH)]) == Lease(DIGESTS, 12)
    assert not lease.settle()
    assert keys.puts == 1


def test_a_collection_that_ended_before_the_push_is_no_concern(keys, lease):
    collecting(keys, opened=False)
    lease.hold(DIGESTS)
    assert not lease.settle()


def test_one_that_was_under_way_is_waited_for_and_then_all_is_looked_at_again(keys, lease, stop):
    collecting(keys)
    lease.hold(DIGESTS)
    stop.then = lambda: collecting(keys, opened=False)
    assert lease.settle()
    assert stop.now > 0


def test_one_that_has_ended_meanwhile_may_have_removed_something_too(keys, lease, stop):
    collecting(keys)
    lease.hold(DIGESTS)
    collecting(keys, opened=False)
    assert lease.settle()
    assert stop.now == 0


def test_the_next_round_knows_of_the_lease(keys, lease, stop):
    collecting(keys)
    lease.hold(DIGESTS)
    stop.then = lambda: collecting(keys, number=2)
    assert lease.settle()
    assert stop.now < COLLECTION_DEAD_S


def test_a_killed_collector_is_not_waited_for_for_ever(keys, lease, stop):
    collecting(keys)
    lease.hold(DIGESTS)
    assert lease.settle()
    assert COLLECTION_DEAD_S <= stop.now < COLLECTION_DEAD_S + 5


def test_it_is_renewed_while_the_push_lasts_and_no_more_often_than_needed(keys, lease, stop):
    lease.renew()
    assert keys.puts == 0
    lease.hold(DIGESTS)
    stop.now += LEASE_REFRESH_S - 1
    lease.renew()
    assert keys.puts == 1
    stop.now += 1
    lease.renew()
    lease.renew()
    assert keys.puts == 2
    assert not lease.settle()


def test_a_lease_that_lapsed_while_the_machine_slept_calls_for_a_last_look(keys, lease, stop):
    lease.hold(DIGESTS)
    stop.now += LEASE_TTL_S
    assert lease.settle()


def test_an_older_tracker_that_signs_no_leases_does_not_end_the_push(keys, lease, caplog):
    keys.fails = [OriginError("keys of this room are …")]
    lease.hold(DIGESTS)
    assert not lease.settle()
    assert "no lease" in caplog.text
    assert not keys.keys


def test_a_busy_origin_is_tried_again(keys, lease):
    keys.fails = [OriginBusyError("busy")]
    lease.hold(DIGESTS)
    assert keys.puts == 2


def test_waiting_can_be_stopped(keys, lease, stop):
    collecting(keys)
    lease.hold(DIGESTS)
    stop.then = stop.set
    with pytest.raises(StoppedError):
        lease.settle()


def test_a_mark_of_a_later_version_is_not_passed_over(keys, lease):
    keys.keys[collection_key(LAB)] = b'{"format": "dreamer-collection/2"}'
    with pytest.raises(InputError, match="update Dreamer"):
        lease.hold(DIGESTS)
    keys.keys[collection_key(LAB)] = b"x" * 10**7
    with pytest.raises(OriginError, match="not ours"):
        lease.hold(DIGESTS)
