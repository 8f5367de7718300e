"""The rooms this node is in, each with its running session: made, joined, left, found by name."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from dreamer.daemon.origin.faults import OriginUnsignedError
from dreamer.daemon.origins import Origins
from dreamer.daemon.ports import RoomInfo
from dreamer.daemon.rendezvous.session import TrackerSession
from dreamer.daemon.room.book import Membership, RoomBook
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.transport.vocabulary import FromTransport
from dreamer.protocol.errors import AmbiguousError, DreamerError, InputError, NoMatchError
from dreamer.protocol.ids import RoomId
from dreamer.protocol.limits import ROOM_RESTART_BASE_S, ROOM_RESTART_MAX_S
from dreamer.protocol.registry.view import Model
from dreamer.protocol.rooms.card import RegistryPlace, RoomCard, parse_registry_place

log = logging.getLogger(__name__)


@dataclass
class Kept:
    """A session and the task that keeps it running."""

    session: RoomSession
    task: asyncio.Task[None]


class RoomKeeper:
    """All sessions of a node. ``make_session`` gives a room its links, sharing and offloading."""

    def __init__(
        self,
        book: RoomBook,
        make_session: Callable[[Membership], RoomSession],
        origins: Origins,
        tasks: TaskSet,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._book = book
        self._make_session = make_session
        self._origins = origins
        self._tasks = tasks
        self._sleep = sleep
        self._kept: dict[RoomId, Kept] = {}

    def start(self) -> None:
        """Start a session for every room in the book."""
        for membership in self._book.list():
            self._start(membership)

    async def close(self) -> None:
        """Say goodbye in every room."""
        for room_id in list(self._kept):
            await self._stop(room_id)

    @property
    def sessions(self) -> list[RoomSession]:
        """Every running session, by the room's name."""
        return sorted((kept.session for kept in self._kept.values()), key=lambda s: s.card.name)

    def transport_event(self, event: FromTransport) -> None:
        """Pass an event of the transport process to the room whose link it is about."""
        for kept in self._kept.values():
            if kept.session.links.owns(event.link):
                kept.session.links.transport_event(event)
                return

    def trackers(self, room_id: RoomId) -> Sequence[TrackerSession]:
        """Return the connections to a room's trackers; none if this node isn't in the room."""
        kept = self._kept.get(room_id)
        return kept.session.sessions if kept else ()

    def infos(self) -> list[RoomInfo]:
        """Return the rooms for people."""
        return [_info(session) for session in self.sessions]

    async def create(
        self,
        name: str,
        trackers: list[str],
        origin: str | None,
        endpoint_url: str | None,
        no_tracker: bool = False,
        registry: str = RegistryPlace.TRACKER,
    ) -> RoomInfo:
        """Make a room; nothing stays of one whose tracker or origin can't be reached.

        Raises:
            InputError: the name is taken, a URL is malformed, or its bucket can't keep a registry.
            RemoteError: a tracker or the origin can't be reached.
        """
        if trackers and no_tracker:
            raise InputError("a room has trackers or none: leave out --tracker or --no-tracker")
        if not trackers and not no_tracker:
            raise InputError(
                "a room needs a tracker: give --tracker URL; or --no-tracker, if its machines "
                "are to be linked by 'dreamer connect' alone"
            )
        place = parse_registry_place(registry)
        if place is RegistryPlace.ORIGIN and origin is None:
            raise InputError("--registry origin needs a bucket: give --origin s3://BUCKET/PREFIX")
        membership = await asyncio.to_thread(
            self._book.create, name, trackers, origin, endpoint_url, time.time(), place
        )
        try:
            session = self._start(membership)
            await session.wait_connected()
            # After the tracker: it may have to sign for the origin.
            advice = await self._check_origin(membership)
            await session.prove_registry()
        except BaseException:
            await self._undo(membership)
            raise
        return replace(_info(session), advice=advice)

    async def join(self, token: str) -> RoomInfo:
        """Redeem a token at the room's tracker; the membership is kept once it lets us in.

        Raises:
            InputError: it is no whole token, or the room is here already.
            ForbiddenError: the invitation has expired or was used.
            RemoteError: the tracker can't be reached.
        """
        membership = await asyncio.to_thread(self._book.accept, token, time.time())
        room_id = membership.card.room_id
        if room_id in self._kept:
            raise InputError(f"this node is in room {membership.card.name} already")
        session = self._start(membership)
        try:
            await session.wait_connected()
            await asyncio.to_thread(self._book.add, membership)
        except BaseException:
            await self._drop(membership)
            raise
        return _info(session)

    async def leave(self, room: str) -> RoomId:
        """Forget a room."""
        membership = await asyncio.to_thread(self._book.remove, room)
        await self._drop(membership)
        return membership.card.room_id

    def invite(self, room: str, roles: list[str], expires_s: float, uses: int) -> str:
        """Return a join token for a room."""
        return self._book.invite(room, roles, expires_s, uses, time.time())

    def get(self, room: str | None) -> RoomSession:
        """Return a room's session by name or id; None means the only room there is.

        Raises:
            NoMatchError: there is no such room.
            AmbiguousError: None, and there are several.
        """
        if room is not None:
            card = self._book.get(room).card
            if (kept := self._kept.get(card.room_id)) is None:
                raise NoMatchError(f"room {card.name} is being made or left: try again in a moment")
            return kept.session
        match self.sessions:
            case [only]:
                return only
            case []:
                raise NoMatchError(
                    "this node is in no room: make one with 'dreamer room create', or join one "
                    "with 'dreamer room join TOKEN'"
                )
            case several:
                names = ", ".join(session.card.name for session in several)
                raise AmbiguousError(f"this node is in several rooms ({names}): say --room NAME")

    def some(self, room: str | None) -> Iterable[RoomSession]:
        """Return one room's session, or with None all."""
        return self.sessions if room is None else [self.get(room)]

    async def find(self, ref: str, room: str | None) -> tuple[RoomSession, Model]:
        """Return the model that a reference names, in one room or in whichever has it.

        Raises:
            NoMatchError: no room has it.
            AmbiguousError: several models, or several rooms, have it.
            DreamerError: no room that can be asked has it, and one can't be asked.
        """
        if room is not None or len(self.sessions) < 2:
            session = self.get(room)
            return session, await session.resolve(ref)
        found: list[tuple[RoomSession, Model]] = []
        missing: list[NoMatchError] = []
        failed: list[DreamerError] = []
        for session in self.sessions:
            try:
                found.append((session, await session.resolve(ref)))
            except NoMatchError as error:
                missing.append(error)
            except InputError:
                raise
            except DreamerError as error:
                log.warning("can't look for a model in room %s: %s", session.card.name, error)
                failed.append(error)
        if not found:
            raise [*failed, *missing][0]
        if len({model.manifest_id for _, model in found}) > 1:
            names = ", ".join(session.card.name for session, _ in found)
            raise AmbiguousError(f"{ref!r:.80} is in several rooms ({names}): say --room NAME")
        return found[0]

    def _start(self, membership: Membership) -> RoomSession:
        session = self._make_session(membership)
        running = self._tasks.start(self._keep_running(session))
        self._kept[membership.card.room_id] = Kept(session, running)
        return session

    async def _keep_running(self, session: RoomSession) -> None:
        """Run a session for ever: one that a bug of ours ends is begun again after a pause."""
        failures = 0
        while True:
            began = time.monotonic()
            running = self._tasks.start(session.run())
            try:
                await asyncio.wait([running])
            finally:
                running.cancel()
                # Whatever it ended with has been logged; leaving must not fail for it.
                await asyncio.wait([running])
            failures = failures + 1 if time.monotonic() - began < ROOM_RESTART_MAX_S else 1
            pause_s = min(ROOM_RESTART_MAX_S, ROOM_RESTART_BASE_S * 2 ** min(failures - 1, 16))
            log.error("room %s failed; it starts again in %.0f s", session.card.name, pause_s)
            await self._sleep(pause_s)

    async def _check_origin(self, membership: Membership) -> str:
        """Return what the room's maker has yet to do before its origin can be used."""
        storage = self._origins.of(membership.card)
        if storage is None:
            return ""
        stop = threading.Event()
        try:
            await asyncio.to_thread(storage.check, stop)
        except OriginUnsignedError as error:
            # A tracker's owner can let the room in only by its id, so there must be a room first.
            return str(error)
        finally:
            stop.set()
        return ""

    async def _stop(self, room_id: RoomId) -> None:
        if kept := self._kept.pop(room_id, None):
            kept.session.close()
            kept.task.cancel()
            await asyncio.wait([kept.task])

    async def _drop(self, membership: Membership) -> None:
        await self._stop(membership.card.room_id)
        await asyncio.to_thread(self._origins.forget, membership.card)

    async def _undo(self, membership: Membership) -> None:
        await self._drop(membership)
        await asyncio.to_thread(self._book.remove, membership.card.room_id.hex())


def _info(session: RoomSession) -> RoomInfo:
    card = session.card
    return RoomInfo(
        name=card.name,
        room_id=card.room_id.hex(),
        roles=tuple(str(role) for role in session.membership.roles),
        trackers=card.trackers,
        origin=card.origin,
        endpoint_url=card.endpoint_url,
        connected=session.connected,
        tracker_states=session.trackers.infos(),
        registry=_kept_at(card),
    )


def _kept_at(card: RoomCard) -> str:
    at_members = card.registry is RegistryPlace.TRACKER and not card.trackers
    return "members" if at_members else str(card.registry)
