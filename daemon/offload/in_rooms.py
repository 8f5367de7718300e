"""Offloading in each room of a node: what listens on its links, and by which rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from dreamer.daemon.inference.load_options import CPU
from dreamer.daemon.inference.tensors import InferRequest
from dreamer.daemon.links.link import Link
from dreamer.daemon.offload.adverts import Adverts
from dreamer.daemon.offload.asking import OffloadAsking
from dreamer.daemon.offload.local_models import LocalModels
from dreamer.daemon.offload.payload_files import PayloadFolder
from dreamer.daemon.offload.payloads import Payloads
from dreamer.daemon.offload.running import Runs
from dreamer.daemon.offload.serving import OffloadServing
from dreamer.daemon.offload.tensor_links import (
    Answer,
    Request,
    TensorAsking,
    TensorServing,
    ValueLinks,
)
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.pace import Pace
from dreamer.daemon.sharing.pusher import model_type
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import DreamerError, ForbiddenError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.offload_adverts import AdvertisedModel, Offering
from dreamer.protocol.offload_rules import check_asked


@dataclass
class OffloadInRooms:
    """Puts asking, serving and adverts into every session of a node.

    ``serves`` and ``serve_roles`` are the node's own settings; ``files`` is the type of models that
    can't be run.
    """

    node_id: NodeId
    here: LocalModels
    runs: Runs
    library: Library
    numbers: Iterator[int]
    tasks: TaskSet
    folder: PayloadFolder
    serves: Callable[[], bool]
    serve_roles: tuple[str, ...] = ()
    not_run: str = "files"
    pace: Pace = field(default_factory=Pace)
    """The node's one queue of uploads: tensors go before models there."""
    _reading: dict[RoomId, asyncio.Task[None]] = field(default_factory=dict)

    def watch(self, session: RoomSession) -> None:
        """Begin in a room; all of it ends with the session."""
        room = session.room_id
        asking = self.runs.asking[room] = OffloadAsking(self.numbers)
        payloads = Payloads(self.folder, self.numbers, pace=self.pace)
        values = ValueLinks(payloads)
        self.runs.tensors.asking[room] = TensorAsking(values, asking.compute)
        serving = OffloadServing(
            partial(self.here.generate, room),
            partial(self._check, session),
            self.tasks,
            self.runs.counts,
            TensorServing(values, partial(self._compute, room)).answered,
        )
        adverts = self.runs.scout.adverts[room] = Adverts(
            partial(self._offering, session),
            partial(self._allowed, session),
            lambda: session.links.links,
        )
        self.runs.scout.doubts = self._doubts
        self.runs.scout.under_way = self._under_way
        for listener in (asking, serving, adverts, payloads):
            session.fanout.add(listener)
        session.at_close += [
            lambda: self.runs.asking.pop(room, None),
            lambda: self.runs.tensors.asking.pop(room, None),
            lambda: self.runs.scout.forget(room),
        ]
        if self.serves():
            session.at_close.append(self.tasks.start(adverts.run()).cancel)

    async def _compute(self, room: RoomId, manifest_id: ManifestId, request: Request) -> Answer:
        if isinstance(request, InferRequest):
            return await self.here.infer(room, manifest_id, request)
        return await self.here.embed(room, manifest_id, request)

    def _doubts(self, link: Link) -> bool:
        asking = self.runs.asking.get(link.room)
        return asking is not None and asking.doubts(link)

    def _under_way(self, link: Link) -> int:
        asking = self.runs.asking.get(link.room)
        return 0 if asking is None else asking.under_way(link)

    def _check(self, session: RoomSession, link: Link) -> None:
        registry = session.registry_known()
        if registry is None:
            self._read_rules(session)
            raise ForbiddenError("this node has yet to read the room's rules: ask in a moment")
        check_asked(
            registry.policy.offload,
            session.roles_of(link.peer),
            session.roles_of(self.node_id),
            self.serves(),
            self.serve_roles,
        )

    def _read_rules(self, session: RoomSession) -> None:
        reading = self._reading.get(session.room_id)
        if reading is None or reading.done():
            self._reading[session.room_id] = self.tasks.start(_read(session))

    def _allowed(self, session: RoomSession, link: Link) -> bool:
        try:
            self._check(session, link)
        except ForbiddenError:
            return False
        return True

    def _offering(self, session: RoomSession) -> Offering | None:
        """Return what is run here for a room's members: its models that are whole here."""
        if not self.serves():
            return None
        whole = [one for one in self.library.in_room(session.room_id) if one.whole]
        held = [one.manifest_id for one in whole if model_type(one.manifest) != self.not_run]
        device = self.here.device(held[0]) if held else CPU
        return Offering(device, tuple(map(self._advertised, held)))

    def _advertised(self, manifest_id: ManifestId) -> AdvertisedModel:
        one = self.here.runner(self.node_id, manifest_id)
        return AdvertisedModel(
            manifest_id,
            one.loaded,
            one.load_s or 0.0,
            *(one.running, one.queued, one.slots),
            *(one.prefill_tokens_s or 0.0, one.decode_tokens_s or 0.0),
        )


async def _read(session: RoomSession) -> None:
    with suppress(DreamerError):
        await session.read_registry()
