"""A node's standing connection to one tracker of one room, kept alive for as long as it runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import aiohttp

from dreamer.daemon.rendezvous import messages
from dreamer.daemon.rendezvous.events import (
    MemberGone,
    MemberPresent,
    RegistryChanged,
    RendezvousEvent,
    RevocationReceived,
    SignalReceived,
    TrackerDown,
    TrackerUp,
    TurnRenewed,
    Unreachable,
)
from dreamer.daemon.rendezvous.login import Socket, TrackerRefusedError, log_in
from dreamer.daemon.rendezvous.messages import Complaint, Holders, Refused, Said, Welcome
from dreamer.daemon.rendezvous.registry import TrackerRegistry
from dreamer.daemon.rendezvous.services import TrackerServices
from dreamer.daemon.rendezvous.standing import Standing
from dreamer.daemon.rendezvous.turn import TurnLease
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import ForbiddenError, RemoteError
from dreamer.protocol.ids import InfoHash, NodeId
from dreamer.protocol.presign import SignedUrls, UrlRequest
from dreamer.protocol.registry.handed_in import HandedIn
from dreamer.protocol.rooms.card import RoomCard, tracker_base_url
from dreamer.protocol.rooms.certificate import Certificate
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.protocol.rooms.revocations import Revocation
from dreamer.protocol.swarm.holders import Found
from dreamer.protocol.tracker_limits import (
    TRACKER_BACKOFF_MAX_S,
    TRACKER_BAD_MESSAGES_PER_SOCKET,
    TRACKER_REFUSED_RETRY_S,
    TRACKER_RETURN_S,
    TRACKER_ROOM_MAX_MEMBERS,
    TRACKER_SEEK_TIMEOUT_S,
)

log = logging.getLogger(__name__)


class Jitter(Protocol):
    """The part of ``random.Random`` that spreads reconnects over time."""

    def uniform(self, a: float, b: float) -> float:
        """Return a number between two others."""
        ...


class TrackerSession:
    """The tracker as this node sees it: ``run`` it in a task, the rest can be called any time.

    What is announced is desired state: it is sent as differences while connected, and whole
    again after a reconnect. Every event goes to ``on_event``, on the event loop.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        room: RoomCard,
        chain: Sequence[Certificate],
        key: SigningKey,
        rng: Jitter,
        on_event: Callable[[RendezvousEvent], None],
    ) -> None:
        self.url = tracker_base_url(url)
        self.last_error: str | None = None
        self._http = http
        self._room_id = room.room_id
        self._chain = tuple(chain)
        self._key = key
        self._rng = rng
        self._on_event = on_event
        self._registry = TrackerRegistry(http, self.url, room.room_id)
        self._services = TrackerServices(http, self.url, room.room_id)
        self._turn = TurnLease(
            lambda: self._services.turn(self._session()),
            rng,
            renewed=lambda: self._tell(TurnRenewed()),
        )
        self._standing = Standing()
        self._restless = asyncio.Event()
        self._woken = asyncio.Event()
        self._socket: Socket | None = None
        self._refusal: str | None = None
        self._changed = asyncio.Event()
        self._bearer: str | None = None
        self._members: dict[NodeId, None] = {}
        self._seeks: dict[InfoHash, list[asyncio.Future[Found]]] = {}

    @property
    def connected(self) -> bool:
        """Whether this node is logged in now."""
        return self._socket is not None

    @property
    def turn_servers(self) -> tuple[dict[str, str], ...]:
        """The TURN servers that this tracker lends at the moment, as ``links.ice`` has them."""
        return self._turn.servers

    async def run(self) -> None:
        """Connect, log in and stay, for ever; cancel it to leave."""
        failures = 0
        while True:
            welcomed, reason = await self._visit()
            failures = 0 if welcomed else failures + 1
            self.last_error = reason
            self._signal_change()
            log.info("tracker %s: %s", self.url, reason)
            self._tell(TrackerDown(reason))
            await asyncio.sleep(self._pause_s(failures))

    async def wait_connected(self, timeout_s: float) -> None:
        """Return as soon as this node is logged in.

        Raises:
            ForbiddenError: the tracker refuses this node, whose message says why.
            RemoteError: it could not be reached in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not self.connected:
                    if self._refusal is not None:
                        raise ForbiddenError(self._refusal)
                    await self._changed.wait()
        except TimeoutError as error:
            why = self.last_error or "no answer in time"
            raise RemoteError(
                f"can't reach tracker {self.url}: {why}; check that dreamer-tracker runs there"
            ) from error

    async def first_attempt(self, timeout_s: float) -> None:
        """Return once this node is logged in or the first try has failed, at the latest then."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self.connected and self.last_error is None:
                    await self._changed.wait()

    def woke(self) -> None:
        """Connect anew: this machine has slept, and the tracker may have forgotten it."""
        self._woken.set()

    def present(self, capabilities: Json) -> None:
        """Let the other members read what this node can do.

        Raises:
            InputError: it isn't JSON, or larger than trackers take.
        """
        self._standing.present(capabilities)
        self._restless.set()

    def announce(self, have: Iterable[InfoHash], want: Iterable[InfoHash]) -> None:
        """Set the swarms in which others shall find this node, in place of those set before."""
        self._standing.announce(have, want)
        self._restless.set()

    async def seek(self, swarm: InfoHash) -> Found:
        """Return members, fifty at most, that have or fetch a model.

        Raises:
            RemoteError: not connected, or no answer in time.
        """
        answer: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        waiting = self._seeks.setdefault(swarm, [])
        waiting.append(answer)
        try:
            async with asyncio.timeout(TRACKER_SEEK_TIMEOUT_S):
                await self._send(messages.seek(swarm))
                return await answer
        except TimeoutError as error:
            raise RemoteError(f"tracker {self.url} doesn't answer: try again later") from error
        finally:
            waiting.remove(answer)
            if not waiting and self._seeks.get(swarm) is waiting:
                del self._seeks[swarm]

    async def signal(self, to: NodeId, body: Json) -> None:
        """Have the tracker hand ``body`` to one member; ``Unreachable`` follows if it is absent.

        Raises:
            RemoteError: not connected.
            InputError: the body is too large.
        """
        await self._send(messages.signal(to, body))

    async def revoke(self, revocation: Revocation) -> None:
        """Have the tracker end a membership; ``RevocationReceived`` follows when it has.

        Raises:
            RemoteError: not connected.
        """
        await self._send(messages.revoke(revocation))

    async def read_registry(self) -> tuple[bytes, str] | None:
        """Return the room's registry document and its ETag; None when there is none yet.

        Raises:
            RemoteError: the tracker can't be reached.
        """
        return await self._registry.read(self._session())

    async def write_registry(self, body: bytes, etag: str | None) -> str:
        """Replace the document that has ``etag``, or make the first (None); return the new ETag.

        Raises:
            ConflictError: it has another ETag by now; read, merge and try again.
            ForbiddenError: this node may not publish.
            InputError: the document can't be a registry.
            RemoteError: the tracker can't be reached; the document may have been written.
        """
        return await self._registry.write(self._session(), body, etag)

    async def presign(self, requests: Sequence[UrlRequest]) -> SignedUrls | None:
        """Return presigned URLs; None when this tracker signs none for the room.

        Raises:
            TrackerBusyError: it wants to be asked more slowly.
            ForbiddenError: this node may not write.
            InputError: it signs for another place than the one asked for.
            RemoteError: the tracker can't be reached.
        """
        return await self._services.presign(self._session(), requests)

    async def report(self, handed: HandedIn) -> bool:
        """Have the tracker enter this node's report; see ``TrackerServices.report``."""
        return await self._services.report(self._session(), handed)

    async def _visit(self) -> tuple[bool, str]:
        """Return whether a connection was a success, and why it ended or never began."""
        # What was refused before may be allowed now: an admin may have put it right.
        self._refusal = None
        try:
            socket, welcome = await log_in(
                self._http, self.url, self._room_id, self._key, self._chain
            )
        except TrackerRefusedError as refusal:
            return False, self._refuse(refusal)
        except RemoteError as error:
            return False, str(error)
        chores = [
            asyncio.create_task(self._keep_told(socket)),
            asyncio.create_task(self._turn.keep()),
            asyncio.create_task(self._leave_once_woken(socket)),
        ]
        try:
            self._arrive(socket, welcome)
            return True, await self._listen(socket)
        except TrackerRefusedError as refusal:
            return False, self._refuse(refusal)
        finally:
            self._depart()
            try:
                await _end(chores)
            finally:
                await socket.close()

    def _refuse(self, refusal: TrackerRefusedError) -> str:
        self._refusal = None if refusal.passing else str(refusal)
        return str(refusal)

    def _arrive(self, socket: Socket, welcome: Welcome) -> None:
        self._socket = socket
        self._bearer = welcome.session
        self.last_error = None
        # Who left while we were away was never reported: the difference is told below.
        before, self._members = self._members, {}
        self._tell(TrackerUp())
        for member in welcome.members:
            self._take(member)
        for node in before:
            if node not in self._members:
                self._tell(MemberGone(node))
        self._signal_change()

    def _depart(self) -> None:
        self._socket = None
        for waiting in self._seeks.values():
            for answer in waiting:
                if not answer.done():
                    answer.set_exception(self._not_connected())
                    # Read here, too: whoever failed to ask won't come back for it.
                    answer.exception()

    async def _keep_told(self, socket: Socket) -> None:
        self._standing.forget_told()
        while True:
            # Cleared first: what changes while a message is being sent is told in the next round.
            self._restless.clear()
            for message in self._standing.news():
                await socket.send_str(message)
            await self._restless.wait()

    async def _leave_once_woken(self, socket: Socket) -> None:
        self._woken.clear()
        await self._woken.wait()
        # It may look whole for minutes; coming anew costs one login.
        await socket.close()

    async def _listen(self, socket: Socket) -> str:
        junk = 0
        async for message in socket:
            said = messages.parse(message.data)
            if isinstance(said, Refused):
                raise TrackerRefusedError(said)
            if said is not None:
                self._take(said)
                continue
            junk += 1
            if junk >= TRACKER_BAD_MESSAGES_PER_SOCKET:
                return "it sends what no tracker sends: is it a dreamer-tracker?"
        return "it closed the connection"

    def _take(self, said: Said) -> None:
        match said:
            case MemberPresent(node):
                # A tracker could invent members without end.
                if node not in self._members and len(self._members) >= TRACKER_ROOM_MAX_MEMBERS:
                    return
                self._members[node] = None
                self._tell(said)
            case MemberGone(node):
                self._members.pop(node, None)
                self._tell(said)
            case Holders(swarm, found):
                for answer in self._seeks.get(swarm, ()):
                    if not answer.done():
                        answer.set_result(found)
            case Complaint(message):
                log.warning("tracker %s complains: %s", self.url, message)
            case SignalReceived() | Unreachable() | RegistryChanged() | RevocationReceived():
                self._tell(said)

    def _tell(self, event: RendezvousEvent) -> None:
        try:
            self._on_event(event)
        # Whatever it is: what one event does to its owner must not end every session of the room.
        except Exception:
            log.exception("tracker %s: can't handle %s", self.url, type(event).__name__)

    async def _send(self, message: str) -> None:
        if self._socket is None:
            raise self._not_connected()
        try:
            await self._socket.send_str(message)
        except ConnectionError as error:
            raise self._not_connected() from error

    def _session(self) -> str:
        if self._bearer is None:
            raise self._not_connected()
        return self._bearer

    def _not_connected(self) -> RemoteError:
        why = self.last_error or "not connected yet"
        return RemoteError(
            f"no connection to tracker {self.url}: {why}; check that dreamer-tracker runs there"
        )

    def _signal_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _pause_s(self, failures: int) -> float:
        pause_s = min(TRACKER_BACKOFF_MAX_S, TRACKER_RETURN_S * 2.0 ** min(failures, 16))
        if self._refusal is not None:
            # Nothing changes by asking again; now and then, in case an admin put it right.
            pause_s = TRACKER_REFUSED_RETRY_S
        # A tracker that restarts loses all its nodes in one moment: nearly the whole pause is left
        # to chance, so that they don't come back in one, too.
        return pause_s * self._rng.uniform(0.1, 1.0)


async def _end(chores: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their end; a lost connection is no error of theirs."""
    for chore in chores:
        chore.cancel()
    # Not `await chore`: a cancellation of our own must not be taken for the chore's.
    await asyncio.wait(chores)
    for chore in chores:
        error = None if chore.cancelled() else chore.exception()
        if error is not None and not isinstance(error, ConnectionError):
            raise error
