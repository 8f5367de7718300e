"""Collects the garbage at a room's origin, by a person's wish, with this node's credentials."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time

from dreamer.daemon.origin.bucket import credentials_found
from dreamer.daemon.origin.faults import OriginBusyError, OriginUnsignedError
from dreamer.daemon.origin.garbage import Collector
from dreamer.daemon.origin.lifetimes import Lifetimes
from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.origins import Origins
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.surfaces.retention import GarbageKind, GarbageReport
from dreamer.protocol.errors import ForbiddenError, InputError, RemoteError
from dreamer.protocol.garbage.collect import Collection, Described, Order
from dreamer.protocol.garbage.lease import MARK_ID_BYTES
from dreamer.protocol.garbage.names import RoomNames, names_in
from dreamer.protocol.garbage.report import Report
from dreamer.protocol.ids import RoomId, short
from dreamer.protocol.origin_limits import GARBAGE_REGISTRY_TIMEOUT_S
from dreamer.protocol.registry.standing import PUBLISHING_ROLES


class RoomGarbage:
    """The garbage of the rooms of a node; its methods are for the daemon's loop."""

    def __init__(self, origins: Origins, lifetimes: Lifetimes) -> None:
        self._origins = origins
        self._lifetimes = lifetimes
        self._described: dict[RoomId, Described] = {}

    async def collect(self, session: RoomSession, apply: bool, grace_s: float) -> GarbageReport:
        """Find what of a room's origin nobody names, and remove it if ``apply``.

        Raises:
            InputError: the room has no origin, or no such grace period is possible.
            ForbiddenError: this node may not, or by this registry nothing may be collected.
            OriginError: the origin failed, or this node has no credentials of its own.
            ConflictError: another collection is under way.
        """
        origin = self._checked(session, apply, grace_s)
        loop, stop = asyncio.get_running_loop(), threading.Event()

        def read() -> RoomNames | None:
            reading = asyncio.run_coroutine_threadsafe(_names(session, grace_s), loop)
            try:
                return reading.result(GARBAGE_REGISTRY_TIMEOUT_S)
            except TimeoutError as error:
                reading.cancel()
                raise RemoteError("the room's registry does not answer: collect later") from error

        def collect() -> tuple[Report, bool]:
            # Before the listing, so that what is begun from now on has its rule.
            has_rules = apply and self._has_rules(session.room_id, origin)
            order = Order(
                *(session.room_id, origin.address, secrets.token_bytes(MARK_ID_BYTES)),
                *(time.time(), grace_s, apply),
            )
            described = self._described.setdefault(session.room_id, {})
            return Collector(origin, read, stop).run(Collection(order, described)), has_rules

        try:
            report, has_rules = await asyncio.to_thread(collect)
        except RemoteError as error:
            if await asyncio.to_thread(credentials_found):
                raise
            raise OriginUnsignedError(
                f"only a node with S3 credentials of its own collects here ({error}); the tracker "
                'that signs for the room does so by itself with sweep = "garbage"'
            ) from error
        finally:
            stop.set()
        return _told(session, report, grace_s, has_rules)

    def _checked(self, session: RoomSession, apply: bool, grace_s: float) -> Origin:
        name = session.card.name
        origin = self._origins.of(session.card)
        if origin is None:
            raise InputError(f"room {name} has no origin: there is nothing to collect")
        if apply and not set(session.membership.roles) & set(PUBLISHING_ROLES):
            raise ForbiddenError(
                f"only publishers and admins of room {name} remove what is at its origin"
            )
        if grace_s < 0:
            raise InputError("the grace period (grace_s) must be 0 seconds or more")
        return origin

    def _has_rules(self, room: RoomId, origin: Origin) -> bool:
        try:
            return self._lifetimes.ensure(room, origin)
        except OriginBusyError:
            return False


async def _names(session: RoomSession, grace_s: float) -> RoomNames | None:
    # Not the last seen copy: one that can't be read anew is no ground for removing anything.
    verified = await session.registry.refresh()
    return names_in(verified, time.time(), grace_s)


def _told(session: RoomSession, report: Report, grace_s: float, has_rules: bool) -> GarbageReport:
    garbage = sorted(report.garbage.items())
    return GarbageReport(
        room=session.card.name,
        origin=str(session.card.origin),
        applied=report.applied,
        grace_s=grace_s,
        looked_at_keys=report.looked_at.keys,
        looked_at_bytes=report.looked_at.size_bytes,
        garbage=tuple(GarbageKind(why, one.keys, one.size_bytes) for why, one in garbage),
        removed_keys=report.removed.keys,
        removed_bytes=report.removed.size_bytes,
        young_keys=report.young.keys,
        young_bytes=report.young.size_bytes,
        held_keys=report.held.keys,
        held_bytes=report.held.size_bytes,
        undescribed_keys=report.kept_undescribed.keys,
        undescribed_bytes=report.kept_undescribed.size_bytes,
        models=tuple(map(short, report.undescribed)),
        foreign_keys=report.foreign_keys,
        foreign=tuple(report.foreign),
        failed=tuple(report.failed),
        unfinished=report.unfinished,
        rules="lifecycle" if has_rules else "sweep",
    )
