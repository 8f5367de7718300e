"""The ``/room`` websocket: a member proves itself, sees who is there, signals to one at a time."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from random import Random
from weakref import WeakValueDictionary

from aiohttp import WSCloseCode, web

from dreamer.protocol import canonical
from dreamer.protocol.errors import DreamerError, ForbiddenError, InputError
from dreamer.protocol.ids import RoomId
from dreamer.protocol.rooms.membership import Member
from dreamer.protocol.rooms.revocations import REVOKED_MESSAGE, Revocation
from dreamer.protocol.tracker_limits import (
    TRACKER_AUTH_TIMEOUT_S,
    TRACKER_BAD_MESSAGES_PER_SOCKET,
    TRACKER_ENTRIES_BURST,
    TRACKER_ENTRIES_PER_S,
    TRACKER_MESSAGES_BURST,
    TRACKER_MESSAGES_PER_S,
    TRACKER_ROOM_OUTBOX_MAX_BYTES,
)
from dreamer.tracker.paces import Paces
from dreamer.tracker.room import admission
from dreamer.tracker.room import wire as room_wire
from dreamer.tracker.room.client_socket import ClientSocket
from dreamer.tracker.room.documents import Documents, Revoked
from dreamer.tracker.room.knocks import Knock, Knocks
from dreamer.tracker.room.new_rooms import NewRooms
from dreamer.tracker.room.presence import PresencePace
from dreamer.tracker.room.refusal import Reason, RefusedError
from dreamer.tracker.room.rooms import Guest, Rooms
from dreamer.tracker.room.sessions import Sessions
from dreamer.tracker.room.terms import Terms
from dreamer.tracker.room.wire import Claim, Login, Presence, Revoke, Said, Seek, Signal

NONCE_BYTES = 32

_REPLACED = RefusedError(Reason.FORBIDDEN, "this node has connected again from elsewhere")
_REVOKED = RefusedError(Reason.REVOKED, REVOKED_MESSAGE)
_EXPIRED = RefusedError(
    Reason.EXPIRED, "this membership has expired: ask an admin for a new invitation"
)


class RoomHandler:
    """Serves the members of every room."""

    def __init__(
        self,
        rooms: Rooms,
        sessions: Sessions,
        documents: Documents,
        rng: Random,
        terms: Terms,
        by_address: bool = True,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """``wall`` is the clock that certificates are dated by, ``steady`` that of sessions.

        ``by_address`` is False behind a proxy, where all seem to come from one.
        """
        self._rooms = rooms
        self._sessions = sessions
        self._documents = documents
        self._rng = rng
        self._wall = wall
        self._steady = steady
        self._sockets: dict[int, ClientSocket] = {}
        self._terms = terms
        self._new_rooms = NewRooms()
        self._knocks = Knocks(by_address)
        # By member, not by socket: whoever connects again goes on where it was.
        self._entries = Paces(TRACKER_ENTRIES_PER_S, TRACKER_ENTRIES_BURST)
        self._messages = Paces(TRACKER_MESSAGES_PER_S, TRACKER_MESSAGES_BURST)
        self._presence = PresencePace(self._tell_presence)
        self._gates: WeakValueDictionary[RoomId, asyncio.Lock] = WeakValueDictionary()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one websocket until it closes; 429 when too many come from its address."""
        socket = ClientSocket(request, TRACKER_ROOM_OUTBOX_MAX_BYTES)
        try:
            knock = self._knocks.begin(socket.address, socket.cut, self._steady())
        except RefusedError as refusal:
            # Before the upgrade: whom we have no place for shouldn't cost us a websocket.
            raise web.HTTPTooManyRequests(text=str(refusal)) from refusal
        with knock:
            await self._attend(socket, knock)
        return socket.response

    async def _attend(self, socket: ClientSocket, knock: Knock) -> None:
        await socket.open()
        self._sockets[socket.number] = socket
        try:
            async with aclosing(socket.messages()) as messages:
                await self._meet(socket, messages, knock)
        except RefusedError as refusal:
            socket.post(room_wire.refused(refusal))
        finally:
            del self._sockets[socket.number]
            await socket.close()

    async def close(self) -> None:
        """Say goodbye to every member."""
        sockets = self._sockets.values()
        await asyncio.gather(*(socket.close(WSCloseCode.GOING_AWAY) for socket in sockets))

    def sweep(self, now: float) -> None:
        """Cut members whose membership has ended; ``now`` is of the steady clock."""
        self._new_rooms.prune(now)
        for guest in self._rooms.expired(self._wall()):
            self._cut(guest, _EXPIRED)

    async def _meet(
        self, socket: ClientSocket, messages: AsyncIterator[str | bytes], knock: Knock
    ) -> None:
        entered = await self._log_in(socket, messages)
        if entered is None:
            return
        knock.end()
        guest, revoked = entered
        session = self._sessions.open(guest.room_id, guest.member)
        self._introduce(guest, session, revoked)
        try:
            await self._serve(guest, messages)
        finally:
            self._presence.forget(guest)
            self._sessions.fade(session, self._steady())
            self._leave(guest)

    def _introduce(self, guest: Guest, session: str, revoked: Revoked) -> None:
        # Without a pause since it entered: nobody can signal to a guest that wasn't introduced,
        # and no revocation falls between those that are repeated here and those that come.
        others = [each for each in self._rooms.guests(guest.room_id) if each is not guest]
        guest.post(room_wire.welcome(session, others))
        for body in revoked.bodies:
            guest.post(room_wire.revoked(body))
        for other in others:
            other.post(room_wire.joined(guest))

    async def _log_in(
        self, socket: ClientSocket, messages: AsyncIterator[str | bytes]
    ) -> tuple[Guest, Revoked] | None:
        nonce = secrets.token_bytes(NONCE_BYTES)
        socket.post(room_wire.challenge(nonce))
        try:
            async with asyncio.timeout(TRACKER_AUTH_TIMEOUT_S):
                message = await anext(messages, None)
        except TimeoutError:
            return None
        if message is None:
            return None
        try:
            return await self._enter(socket, message, nonce)
        except RefusedError:
            raise
        except InputError as error:
            raise RefusedError(Reason.BAD_INPUT, str(error)) from error
        except ForbiddenError as error:
            raise RefusedError(Reason.FORBIDDEN, str(error)) from error

    async def _enter(
        self, socket: ClientSocket, message: str | bytes, nonce: bytes
    ) -> tuple[Guest, Revoked]:
        login = room_wire.parse_login(message)
        self._terms.check_name(login.tracker, socket.host)
        # Outside the gate: strangers with false signatures mustn't keep members waiting.
        member = await asyncio.to_thread(admission.prove, login, nonce, self._wall())
        # After the proof: which rooms are served here is no stranger's business.
        self._terms.check_room(login.room_id)
        # After it, too: nobody but the node itself may use up its chances.
        if not self._entries.allows((login.room_id, member.node_id), self._steady()):
            raise RefusedError(Reason.FULL, "this node logs in too often: wait some seconds")

        def cut(refusal: RefusedError) -> None:
            socket.post(room_wire.refused(refusal))
            socket.hang_up(WSCloseCode.POLICY_VIOLATION)

        guest = Guest(login.room_id, member, socket.post, socket.forward, cut)
        async with self._gate(login.room_id):
            revoked = await self._admit(login, member, socket.address)
            older = self._rooms.enter(guest)
        if older is not None:
            older.cut(_REPLACED)
        return guest, revoked

    async def _admit(self, login: Login, member: Member, address: str) -> Revoked:
        room_id = login.room_id
        if not await asyncio.to_thread(self._documents.knows, room_id):
            self._new_rooms.count(address, self._steady())
            await asyncio.to_thread(self._documents.add_room, room_id, self._wall())
        return await asyncio.to_thread(
            admission.admit, self._documents, room_id, member, self._wall()
        )

    def _gate(self, room_id: RoomId) -> asyncio.Lock:
        # A login must not slip in between a revocation's storage and the cutting of members. The
        # gate is there for as long as somebody is in it or waits at it.
        return self._gates.setdefault(room_id, asyncio.Lock())

    async def _serve(self, guest: Guest, messages: AsyncIterator[str | bytes]) -> None:
        bad = 0
        async for message in messages:
            try:
                await self._take(guest, room_wire.parse(message))
            except DreamerError as error:
                bad += 1
                guest.post(room_wire.error(error))
            if bad >= TRACKER_BAD_MESSAGES_PER_SOCKET or self._rooms.room_of(guest) is None:
                return
            member = (guest.room_id, guest.node_id)
            if delay_s := self._messages.delay_s(member, self._steady()):
                await asyncio.sleep(delay_s)

    async def _take(self, guest: Guest, said: Said) -> None:
        room = self._rooms.room_of(guest)
        if room is None:
            return
        match said:
            case Presence():
                guest.capabilities = said.capabilities
                self._presence.changed(guest)
            case Claim():
                room.disclaim(guest, said.gone)
                room.claim(guest, said.want, whole=False)
                room.claim(guest, said.have, whole=True)
            case Seek():
                found = room.holders(said.swarm, guest.node_id, self._rng)
                guest.post(room_wire.holders(said.swarm, found))
            case Signal():
                self._signal(guest, said)
            case Revoke():
                await self._revoke(guest, said.revocation)

    def _tell_presence(self, guest: Guest) -> None:
        if room := self._rooms.room_of(guest):
            news = room_wire.joined(guest)
            for other in room.others(guest.node_id):
                other.post(news)

    def _signal(self, guest: Guest, said: Signal) -> None:
        room = self._rooms.room_of(guest)
        target = room.guests.get(said.to) if room else None
        text = room_wire.signal(guest.node_id, said.body)
        if target is None or not target.forward(guest.node_id, text):
            guest.post(room_wire.unreachable(said.to))

    async def _revoke(self, sender: Guest, revocation: Revocation) -> None:
        room_id = sender.room_id
        news = room_wire.revoked(canonical.dumps(revocation.to_json()).decode())
        async with self._gate(room_id):
            revoked = await asyncio.to_thread(
                admission.revoke, self._documents, room_id, revocation, self._wall()
            )
            if revoked is None:
                # All the others have heard it when it came first.
                sender.post(news)
                return
            for guest in self._rooms.guests(room_id):
                guest.post(news)
                if revoked.holds_against(guest.member):
                    self._cut(guest, _REVOKED)
        self._sessions.end(room_id, revoked.holds_against)

    def _cut(self, guest: Guest, refusal: RefusedError) -> None:
        self._sessions.end(guest.room_id, lambda member: member.node_id == guest.node_id)
        guest.cut(refusal)
        self._leave(guest)

    def _leave(self, guest: Guest) -> None:
        if self._rooms.leave(guest):
            for other in self._rooms.guests(guest.room_id):
                other.post(room_wire.left(guest.node_id))
