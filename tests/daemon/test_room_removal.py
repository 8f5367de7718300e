"""Removing a member, through a real tracker: who was away hears of it at its next login."""

from __future__ import annotations

import asyncio
import random
import time

import aiohttp
import pytest
from aiohttp import web

from dreamer.protocol import canonical
from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.rooms.membership import chain_to_json
from dreamer.tracker.app import Tracker
from dreamer.tracker.room.documents import Documents

DEADLINE_S = 10.0
STEP_S = 0.01


async def known_revocations(node, count: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while len(node.state.revocations(node.book.list()[0].card.room_id)) < count:
            await asyncio.sleep(STEP_S)


@pytest.fixture
async def nodes(tmp_path, room_node):
    """The creator and two guests, of a room whose tracker is up."""
    documents = Documents(tmp_path / "tracker")
    runner = web.AppRunner(Tracker(documents, random.Random(1)).web_app(), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as http:
        made = [room_node(tmp_path, name, http) for name in ("a", "b", "c")]
        await _furnish(made, f"http://127.0.0.1:{runner.addresses[0][1]}")
        yield made
        for node in made:
            await node.close()
    await runner.cleanup()
    documents.close()


async def _furnish(nodes: list, tracker_url: str) -> None:
    first, *guests = nodes
    first.book.create("team", [tracker_url], None, None, time.time())
    for guest in guests:
        token = first.book.invite("team", ["member"], 3600.0, 1, time.time())
        guest.book.add(guest.book.accept(token, time.time()))


async def test_removed_member_is_refused_and_who_was_away_hears_of_it(nodes) -> None:
    a, b, c = nodes
    async with a.inside() as session, b.inside():
        async with c.inside():
            pass
        assert await session.remove_member(b.identity.node_id.hex()) == b.identity.node_id
        assert len(a.state.revocations(session.room_id)) == 1
    with pytest.raises(ForbiddenError, match="revoked"):
        async with b.inside():
            pass
    async with c.inside():
        await known_revocations(c, 1)


async def test_members_are_removed_one_after_another(nodes) -> None:
    a, b, c = nodes
    async with a.inside() as session, b.inside(), c.inside():
        for guest in (b, c):
            await session.remove_member(guest.identity.node_id.hex()[:8])
        await known_revocations(a, 2)
        async with asyncio.timeout(DEADLINE_S):
            while session.present.keys() - {a.identity.node_id}:
                await asyncio.sleep(STEP_S)


async def test_removed_member_is_not_called_again_though_others_still_name_it(nodes) -> None:
    a, b, _ = nodes
    async with a.inside() as session:
        chain = chain_to_json(b.book.list()[0].chain)
        session._members.verify(canonical.dumps({"chain": chain}))
        assert not session.links.banned(b.identity.node_id)
        await session.remove_member(b.identity.node_id.hex())
        assert session.links.banned(b.identity.node_id)
