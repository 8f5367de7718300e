"""Sweeps the origins that a tracker signs for: temporary uploads that are over, and garbage.

What has expired goes in any case: its keys say so themselves. What nobody names goes only where
the tracker's owner has asked for that, with the registry that is in the bucket, else with the one
that this tracker keeps; as a mirror it may be old, which the leases of pushes tell.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from random import Random
from typing import Any

from blake3 import blake3

from dreamer.protocol.errors import (
    ConflictError,
    DreamerError,
    InputError,
    RemoteError,
    StoppedError,
)
from dreamer.protocol.garbage.collect import Collection, Described, Order
from dreamer.protocol.garbage.commands import (
    Command,
    Deleted,
    DeleteKeys,
    OpenUpload,
    ReadClock,
    StoredKey,
    WriteKey,
)
from dreamer.protocol.garbage.driving import Answers, drive
from dreamer.protocol.garbage.lease import MARK_ID_BYTES
from dreamer.protocol.garbage.names import RoomNames, names_in
from dreamer.protocol.garbage.report import Report
from dreamer.protocol.ids import Digest, RoomId, short
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.origin_limits import GARBAGE_GRACE_S
from dreamer.protocol.registry.document import parse
from dreamer.protocol.registry.membership import member_verifier
from dreamer.protocol.registry.verify import verify
from dreamer.protocol.tracker_limits import SWEEP_INTERVAL_MAX_S, SWEEP_INTERVAL_S
from dreamer.tracker.room.detached import detached
from dreamer.tracker.room.documents import Documents
from dreamer.tracker.room.origin_bucket import OriginBucket

log = logging.getLogger(__name__)


class SweepMode(StrEnum):
    """What a tracker removes by itself."""

    OFF = "off"
    TEMPORARY = "temporary"
    """Temporary uploads whose time is over."""
    GARBAGE = "garbage"
    """These, and what no model of the room has."""


@dataclass(frozen=True)
class SweepSettings:
    """What is swept, and how often."""

    mode: SweepMode = SweepMode.TEMPORARY
    interval_s: float = SWEEP_INTERVAL_S


def read_sweep(mode: str, interval_s: str) -> SweepSettings:
    """Return the settings that two texts say; empty ones stand for the default.

    Raises:
        InputError: one is malformed.
    """
    if mode and mode not in list(SweepMode):
        raise InputError(f"sweep must be one of {', '.join(SweepMode)}, not {mode!r:.40}")
    number = interval_s.isascii() and interval_s.isdigit() and len(interval_s) < 10
    if interval_s and not (number and 1 <= int(interval_s) <= SWEEP_INTERVAL_MAX_S):
        raise InputError(
            f"sweep_interval_s must be a whole number of seconds, 1 to {SWEEP_INTERVAL_MAX_S}, "
            f"not {interval_s!r:.40}"
        )
    return SweepSettings(
        SweepMode(mode or SweepMode.TEMPORARY), float(interval_s or SWEEP_INTERVAL_S)
    )


class Sweeper:
    """Sweeps all rooms of ``origins``, one after the other; ``run`` until cancelled."""

    def __init__(
        self,
        documents: Documents,
        origins: Mapping[RoomId, OriginAddress],
        settings: SweepSettings,
        rng: Random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._documents = documents
        self._buckets = {room: OriginBucket(address) for room, address in origins.items()}
        self._settings = settings
        self._rng = rng
        self._clock = clock
        self._described: dict[RoomId, Described] = {}
        self._stop = threading.Event()

    async def run(self) -> None:
        """Sweep now and then."""
        if self._settings.mode is SweepMode.OFF or not self._buckets:
            return
        try:
            while True:
                # Trackers that were started together don't sweep together.
                await asyncio.sleep(self._settings.interval_s * self._rng.uniform(0.5, 1.0))
                for room in self._buckets:
                    await detached(partial(self._swept, room), "dreamer-sweep")
        finally:
            self._stop.set()

    def sweep(self, room: RoomId, mode: SweepMode) -> Report:
        """Sweep one room. Blocks.

        Raises:
            DreamerError: the origin failed, or the registry is not to be gone by.
        """
        bucket = self._buckets[room]
        order = Order(
            *(room, bucket.address, secrets.token_bytes(MARK_ID_BYTES), self._clock()),
            *(GARBAGE_GRACE_S, True, mode is SweepMode.TEMPORARY),
        )
        steps = Collection(order, self._described.setdefault(room, {})).run()
        hands = _Hands(bucket, lambda: self._names(room, bucket), self._stop)
        return drive(steps, hands.answer)

    def _swept(self, room: RoomId) -> None:
        try:
            report = self.sweep(room, self._settings.mode)
        except StoppedError:
            return
        except ConflictError as error:
            log.info("room %s is not swept now: %s", short(room), error)
        except DreamerError as error:
            log.warning("the origin of room %s can't be swept: %s", short(room), error)
        except Exception:
            # A bug of ours must not end the sweeping of all other rooms.
            log.exception("the origin of room %s can't be swept", short(room))
        else:
            if report.removed.keys:
                log.info(
                    "removed %d keys of room %s from its origin (%d bytes)",
                    *(report.removed.keys, short(room), report.removed.size_bytes),
                )

    def _names(self, room: RoomId, bucket: OriginBucket) -> RoomNames | None:
        found = bucket.read(bucket.address.registry_key(room))
        kept = self._documents.registry(room)
        data = found[0] if found else kept.body if kept else None
        if data is None:
            return None
        now = self._clock()
        judge = member_verifier(self._documents.revoked(room).nodes)
        return names_in(verify(parse(data, room), judge, now), now, GARBAGE_GRACE_S)


class _Hands:
    """Answers the commands of one collection."""

    def __init__(
        self,
        bucket: OriginBucket,
        names: Callable[[], RoomNames | None],
        stop: threading.Event,
    ) -> None:
        self._bucket = bucket
        self._names = names
        self._stop = stop
        self._answers = Answers(self)

    def answer(self, command: Command) -> Any:
        # A mark may be taken off yet.
        if self._stop.is_set() and not isinstance(command, WriteKey | ReadClock):
            raise StoppedError("the tracker is stopping")
        return self._answers.to(command)

    def names(self) -> RoomNames | None:
        return self._names()

    def read(self, key: str) -> tuple[bytes, str] | None:
        return self._bucket.read(key)

    def listed(self, prefix: str) -> Iterator[StoredKey]:
        return self._bucket.listed(prefix)

    def uploads(self, prefix: str) -> tuple[OpenUpload, ...]:
        return tuple(self._bucket.uploads(prefix))

    def now(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def manifest(self, digest: Digest) -> bytes | None:
        found = self._bucket.read(self._bucket.address.object_key(digest))
        if found is not None and blake3(found[0]).digest() != digest:
            raise RemoteError(f"manifest {short(digest)} is damaged: push the model again")
        return found[0] if found else None

    def write(self, command: WriteKey) -> str | None:
        try:
            return self._bucket.write(command.key, command.data, command.etag)
        except ConflictError:
            return None

    def delete(self, command: DeleteKeys) -> Deleted:
        removed: list[str] = []
        failed: list[str] = []
        for key in command.keys:
            if time.monotonic() >= command.until:
                break
            try:
                self._bucket.delete(key)
                removed.append(key)
            except RemoteError as error:
                log.warning("%s", error)
                failed.append(key)
        return Deleted(frozenset(removed), frozenset(failed))

    def abort(self, upload: OpenUpload) -> bool:
        try:
            self._bucket.abort(upload.key, upload.upload_id)
        except RemoteError as error:
            log.warning("%s", error)
            return False
        return True
