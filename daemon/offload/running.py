"""Answers a run request: here, or on the peer that the plan names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from dreamer.daemon.inference.pool import Pool
from dreamer.daemon.inference.requests import Ended, Event, GenerateRequest, Text
from dreamer.daemon.links.link import Link
from dreamer.daemon.offload.asking import OffloadAsking
from dreamer.daemon.ports import RunEnded, RunEvent, RunRequest, RunStarted, RunText
from dreamer.daemon.room.presence import serves
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.discovery import Discovery
from dreamer.daemon.state import State
from dreamer.daemon.store.store import Store
from dreamer.protocol.errors import DreamerError, InputError, NoMatchError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId, short
from dreamer.protocol.offload import Runner, plan
from dreamer.protocol.registry.view import Model
from dreamer.protocol.swarm.holders import Found


@dataclass
class Runs:
    """Runs models for this node's user, and lends them to ``OffloadServing``."""

    node_id: NodeId
    node_name: str
    store: Store
    state: State
    pool: Pool
    held: Callable[[RoomId, ManifestId], bool]
    asking: dict[RoomId, OffloadAsking] = field(default_factory=dict)

    async def run(
        self, session: RoomSession, model: Model, request: RunRequest
    ) -> AsyncGenerator[RunEvent, None]:
        """Yield who runs it, then the text as it comes, then how it ended.

        Raises:
            InputError: no runner could answer such a request.
            RemoteError: nobody can run it as asked.
            DreamerError: the runner failed.
        """
        generation = GenerateRequest(prompt=request.prompt, max_tokens=request.max_tokens)
        generation.check()
        here = self.held(session.room_id, model.manifest_id)
        links: dict[NodeId, Link] = {}
        if not here or request.where == "peer":
            links = await self._servers(session, model, needed=request.where != "local")
        runners = [Runner(link.peer, link.rtt_s) for link in links.values()]
        chosen = plan(request.where, here, runners, model.name)
        if chosen.local:
            yield self._started("local", self.node_id, self.node_name, model)
            answer = self.generate(session.room_id, model.manifest_id, generation)
            async with aclosing(answer) as events:
                async for event in events:
                    if (said := _event(event)) is not None:
                        yield said
            return
        peers = [links[peer] for peer in chosen.peers]
        async with aclosing(self._on_peers(peers, model, request)) as told:
            async for one in told:
                yield one

    async def generate(
        self, room: RoomId, manifest_id: ManifestId, request: GenerateRequest
    ) -> AsyncGenerator[Event, None]:
        """Run a model of a room that is whole on this node.

        Raises:
            NoMatchError: it is not.
        """
        manifest = await asyncio.to_thread(self.store.manifest, manifest_id)
        held = self.state.model(manifest_id)
        if manifest is None or held is None or not self.held(room, manifest_id):
            raise NoMatchError(f"{short(manifest_id)} is not on this node: pull it first")
        path = await asyncio.to_thread(self.store.lay_out, manifest_id, manifest, held.name, None)
        async with aclosing(self.pool.generate(path, manifest_id.hex(), request)) as events:
            async for event in events:
                yield event

    async def _servers(
        self, session: RoomSession, model: Model, needed: bool
    ) -> dict[NodeId, Link]:
        if not needed:
            return {}

        async def serving_holders() -> Found:
            holders = await session.holders(model.manifest_id)
            return Found(tuple(one for one in holders if serves(session.present.get(one, {}))))

        links = await Discovery(session.links, serving_holders).meet()
        return {link.peer: link for link in links if serves(link.capabilities)}

    async def _on_peers(
        self, links: list[Link], model: Model, request: RunRequest
    ) -> AsyncGenerator[RunEvent, None]:
        """Try one peer after the other until one begins to answer."""
        failed: DreamerError | None = None
        for link in links:
            begun = False
            answer = self.asking[link.room].run(
                link, model.manifest_id, request.prompt, request.max_tokens
            )
            try:
                async with aclosing(answer) as events:
                    async for event in events:
                        if not begun:
                            yield self._started("peer", link.peer, link.name, model)
                            begun = True
                        yield event
                return
            except InputError:
                # What is wrong with the request is wrong everywhere.
                raise
            except DreamerError as error:
                # Before the first word any reason will do: it is busy, or has the model no more.
                if begun:
                    raise
                failed = error
        assert failed is not None, "a plan without local names at least one peer"
        raise failed

    def _started(self, where: str, node: NodeId, name: str, model: Model) -> RunStarted:
        return RunStarted(
            "peer" if where == "peer" else "local", node.hex(), name, model.manifest_id.hex()
        )


def _event(event: Event) -> RunText | RunEnded | None:
    match event:
        case Text(text, token_ids):
            return RunText(text, len(token_ids))
        case Ended(reason, prompt_tokens, completion_tokens, first_token_s, seconds):
            return RunEnded(reason, prompt_tokens, completion_tokens, first_token_s, seconds)
    return None
