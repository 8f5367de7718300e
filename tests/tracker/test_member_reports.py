"""Reports of members that may not write the registry: over real sockets, here and in a bucket."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from dataclasses import replace

import aiohttp
import pytest

from dreamer.protocol.canonical import dumps
from dreamer.protocol.errors import ConflictError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.registry.availability import NodeReport
from dreamer.protocol.registry.changes import Author, Publish, ReportNode, apply
from dreamer.protocol.registry.document import Document, parse
from dreamer.protocol.registry.handed_in import HandedIn
from dreamer.protocol.registry.membership import member_verifier
from dreamer.protocol.registry.records import sign
from dreamer.protocol.registry.statements import ModelEntry
from dreamer.protocol.registry.verify import verify
from dreamer.protocol.registry_limits import CACHED_ID_BYTES, HANDED_IN_MAX_BYTES
from dreamer.protocol.rooms.card import RegistryPlace
from dreamer.protocol.rooms.membership import chain_to_json
from dreamer.protocol.rooms.revocations import Revocation, RevocationSet
from dreamer.protocol.tracker_limits import (
    TRACKER_REPORT_ATTEMPTS,
    TRACKER_REPORTS_AT_ONCE,
    TRACKER_REPORTS_BURST,
    TRACKER_ROOM_REPORTS_BURST,
    TRACKER_ROOM_REPORTS_WAITING,
)
from dreamer.tracker.paces import Paces
from dreamer.tracker.room.lends import Lends

A = ManifestId(b"a" * 32)
HELD = NodeReport(((A[:CACHED_ID_BYTES], True),), {"2026-11": {"direct-down": 7}}, "bench")
BUCKET = "reported"
DEADLINE_S = 10.0


class Reporter:
    """A member's HTTP side, and its own view of the registry."""

    def __init__(self, running, insider, session: str) -> None:
        self._running = running
        self._insider = insider
        self.room = insider.room_id
        self.node = NodeId(insider.key.public)
        self.author = Author(insider.key, chain_to_json(insider.chain))
        self._below = f"{running.url}/rooms/{self.room.hex()}"
        self.bearer = {"Authorization": f"Bearer {session}"}

    @classmethod
    async def enter(cls, running, insider) -> tuple:
        talker, welcome = await insider.enter(running)
        return talker, cls(running, insider, welcome["session"])

    def handed(self, document: bytes, said: NodeReport = HELD, place="tracker") -> HandedIn:
        found = verify(parse(document, self.room), member_verifier(), time.time())
        made = apply(found, [ReportNode(said)], self.author, time.time())
        return HandedIn(made.reports[self.node], self.author.chain, RegistryPlace(place))

    async def send(self, body: bytes) -> tuple[int, str]:
        async with self._running.http.post(
            f"{self._below}/report", data=body, headers=self.bearer
        ) as response:
            return response.status, await response.text()

    async def report(self, handed: HandedIn) -> tuple[int, str]:
        return await self.send(dumps(handed.to_json()))

    async def put(self, body: bytes, etag: str | None) -> int:
        condition = {"If-None-Match": "*"} if etag is None else {"If-Match": etag}
        async with self._running.http.put(
            f"{self._below}/registry", data=body, headers={**self.bearer, **condition}
        ) as response:
            return response.status

    async def get(self) -> tuple[bytes, str]:
        async with self._running.http.get(
            f"{self._below}/registry", headers=self.bearer
        ) as response:
            return await response.read(), response.headers["ETag"]

    async def seen(self, revoked=None):
        """Return what a reader believes of the registry."""
        document = parse((await self.get())[0], self.room)
        return verify(document, member_verifier(revoked), time.time())


def published(reporter: Reporter) -> bytes:
    """The room's first document, with one model, as a publisher writes it."""
    entry = ModelEntry(A, "weights", 10, 1, "decoder")
    empty = verify(Document(reporter.room), member_verifier(), time.time())
    return apply(empty, [Publish(entry)], reporter.author, time.time()).encode()


@pytest.fixture
async def writer(running, insiders):
    _, found = await Reporter.enter(running, insiders[0])
    assert await found.put(published(found), None) == 201
    return found


@pytest.fixture
async def plain(running, insider_of, writer):
    """A member with no other role."""
    _, found = await Reporter.enter(running, insider_of(2).invited(("member",), invite=2))
    return found


async def test_plain_member_is_found_among_those_that_have_the_model(running, writer, plain):
    before, etag = await writer.get()
    status, text = await plain.report(plain.handed(before))
    assert (status, json.loads(text)["etag"] != etag) == (200, True)
    found = await writer.seen()
    assert found.reports == ()
    assert found.registry.models[A].cached_on == ((plain.node, True),)
    assert found.registry.reports[plain.node].usage == HELD.usage
    gone = plain.handed((await writer.get())[0], NodeReport(name="bench"))
    assert (await plain.report(gone))[0] == 200
    assert (await writer.seen()).registry.models[A].cached_on == ()


async def test_all_members_hear_of_it_once(running, insiders, writer, plain):
    talker, _ = await Reporter.enter(running, insiders[2])
    handed = plain.handed((await writer.get())[0])
    _, text = await plain.report(handed)
    heard = await talker.hear_type("registry")
    assert heard["etag"] == json.loads(text)["etag"]
    # What is there already is no news.
    assert (await plain.report(handed))[1] == text
    _, etag = await writer.get()
    await writer.put(published(writer), etag)
    assert (await talker.hear_type("registry"))["etag"] != heard["etag"]


async def test_a_change_of_anything_else_is_still_refused(writer, plain):
    before, etag = await writer.get()
    handed = plain.handed(before)
    found = verify(parse(before, plain.room), member_verifier(), time.time())
    made = apply(found, [ReportNode(HELD)], plain.author, time.time())
    assert await plain.put(made.encode(), etag) == 403
    entry = sign(ModelEntry(A, "mine", 1, 1, "files"), plain.room, plain.author.key, 1.0, 2)
    sent = {**handed.to_json(), "report": entry.to_json()}
    assert (await plain.send(dumps(sent)))[0] == 400
    for more in ({"models": {}}, {"aliases": {}}, {"serial": 99}):
        assert (await plain.send(dumps({**handed.to_json(), **more})))[0] == 400
    assert await writer.get() == (before, etag)


async def test_report_of_another_node_is_refused(running, insider_of, writer, plain):
    before, etag = await writer.get()
    _, other = await Reporter.enter(running, insider_of(3).invited(("member",), invite=3))
    theirs = other.handed(before)
    assert (await plain.report(theirs))[0] == 403
    mine = replace(theirs.report, by=plain.node)
    assert (await plain.report(HandedIn(mine, plain.author.chain)))[0] == 403
    # Nor may who writes the document say it for others: readers don't believe that.
    document = parse(before, writer.room)
    forged = replace(document, reports={plain.node: mine}, members=document.members)
    assert await writer.put(forged.encode(), etag) == 204
    assert (await writer.seen()).registry.models[A].cached_on == ()
    assert (await plain.report(plain.handed(before)))[0] == 200
    assert (await writer.seen()).registry.models[A].cached_on == ((plain.node, True),)


async def test_report_of_a_removed_member_is_gone_and_the_next_refused(
    running, insiders, writer, plain
):
    before, _ = await writer.get()
    assert (await plain.report(plain.handed(before)))[0] == 200
    boss, _ = await insiders[4].enter(running)
    unsigned = Revocation(plain.room, 1, plain.node, 1, insiders[4].chain)
    ended = unsigned.signed_by(insiders[4].key)
    await boss.say(type="revoke", revocation=ended.to_json())
    await boss.hear_type("revoked")
    found = await writer.seen(RevocationSet(plain.room, [ended]))
    assert found.registry.models[A].cached_on == ()
    assert found.registry.reports == {}
    after, _ = await writer.get()
    again = plain.handed(after, NodeReport(name="still here"))
    assert await plain.report(again) == (401, "log in at /room first")


async def test_who_is_removed_while_its_report_waits_is_not_heard(running, insiders, writer, plain):
    before = await writer.get()
    boss, _ = await insiders[4].enter(running)
    ended = Revocation(plain.room, 1, plain.node, 1, insiders[4].chain).signed_by(insiders[4].key)
    queues = running.tracker._reports._queues
    async with queues.turn(plain.room):
        waiting = asyncio.create_task(plain.report(plain.handed(before[0])))
        async with asyncio.timeout(DEADLINE_S):
            while queues.there(plain.room) < 2:
                await asyncio.sleep(0)
        await boss.say(type="revoke", revocation=ended.to_json())
        await boss.hear_type("revoked")
    assert await waiting == (401, "log in at /room first")
    assert await writer.get() == before


async def test_reports_wait_until_there_is_a_registry(running, insider_of, insiders):
    _, plain = await Reporter.enter(running, insider_of(2).invited(("member",), invite=2))
    _, writer = await Reporter.enter(running, insiders[0])
    handed = plain.handed(published(writer))
    assert await plain.report(handed) == (404, "this room has no registry yet")
    assert (await plain.report(replace(handed, kept=RegistryPlace.ORIGIN)))[0] == 404


async def test_strangers_are_told_nothing(running, writer, plain):
    handed = dumps(plain.handed((await writer.get())[0]).to_json())
    for bearer in ({}, {"Authorization": "Bearer nonsense"}):
        plain.bearer = bearer
        assert await plain.send(handed) == (401, "log in at /room first")


async def test_reports_are_bounded_in_size_and_number(writer, plain):
    before, _ = await writer.get()
    assert (await plain.send(b"{}" + b" " * HANDED_IN_MAX_BYTES))[0] == 413
    for _ in range(int(TRACKER_REPORTS_BURST) - 1):
        assert (await plain.send(b"{"))[0] == 400
    status, text = await plain.report(plain.handed(before))
    assert (status, "of this node: wait 10 seconds" in text) == (429, True)


async def test_reports_of_a_room_are_bounded_whoever_sends_them(
    running, insider_of, writer, plain, monkeypatch
):
    # Hardly a token comes back, and all but two are taken.
    paces, now = Paces(1e-6, TRACKER_ROOM_REPORTS_BURST), running.tracker._reports._auth.steady()
    monkeypatch.setattr(running.tracker._reports, "_room_paces", paces)
    for _ in range(int(TRACKER_ROOM_REPORTS_BURST) - 2):
        assert paces.allows(plain.room, now)
    before, _ = await writer.get()
    _, other = await Reporter.enter(running, insider_of(3).invited(("member",), invite=3))
    assert (await plain.report(plain.handed(before)))[0] == 200
    # Who is refused anyway takes nothing of what the others have.
    assert (await plain.report(other.handed(before)))[0] == 403
    assert (await other.report(other.handed(before)))[0] == 200
    status, text = await plain.report(plain.handed(before))
    assert (status, "in this room: wait 10 seconds" in text) == (429, True)


async def test_few_wait_for_their_turn_in_a_room_and_the_rest_come_later(running, writer, plain):
    queues = running.tracker._reports._queues

    async def wait() -> None:
        async with queues.turn(plain.room):
            pass

    handed = plain.handed((await writer.get())[0])
    async with queues.turn(plain.room):
        others = [asyncio.create_task(wait()) for _ in range(TRACKER_ROOM_REPORTS_WAITING - 1)]
        waiting = asyncio.create_task(plain.report(handed))
        async with asyncio.timeout(DEADLINE_S):
            while queues.there(plain.room) <= TRACKER_ROOM_REPORTS_WAITING:
                await asyncio.sleep(0)
        async with asyncio.timeout(DEADLINE_S):
            status, text = await plain.report(handed)
        assert (status, "in this room" in text) == (429, True)
        # What is refused in any case waits for nothing.
        mine = replace(handed.report, by=writer.node)
        assert (await plain.report(replace(handed, report=mine)))[0] == 403
    await asyncio.gather(*others)
    assert (await waiting)[0] == 200
    assert queues.there(plain.room) == 0


async def test_reports_of_one_room_do_not_wait_for_those_of_another(running, writer, plain):
    handed = plain.handed((await writer.get())[0])
    async with running.tracker._reports._queues.turn(RoomId(b"x" * 32)):
        async with asyncio.timeout(DEADLINE_S):
            assert (await plain.report(handed))[0] == 200


async def test_no_more_registries_are_worked_on_at_once_than_the_tracker_bears(
    running, documents, writer, plain, monkeypatch
):
    handed, worked = plain.handed((await writer.get())[0]), []
    reading = documents.registry
    monkeypatch.setattr(documents, "registry", lambda room: (worked.append(room), reading(room))[1])
    places, queues = running.tracker._reports._at_once, running.tracker._reports._queues
    async with AsyncExitStack() as others:
        for _ in range(TRACKER_REPORTS_AT_ONCE):
            await others.enter_async_context(places)
        waiting = asyncio.create_task(plain.report(handed))
        async with asyncio.timeout(DEADLINE_S):
            while not (queues.there(plain.room) and places._waiters):
                await asyncio.sleep(0)
        assert worked == []
    assert (await waiting)[0] == 200
    assert worked == [plain.room]


async def test_a_registry_that_nobody_can_read_takes_no_report(writer, plain):
    before, etag = await writer.get()
    handed = plain.handed(before)
    await writer.put(b'{"n":1}', etag)
    assert (await plain.report(handed))[0] == 507
    assert (await writer.get())[0] == b'{"n":1}'


async def test_all_reports_of_a_crowd_arrive(running, insider_of, writer):
    before, _ = await writer.get()
    crowd = []
    for number in range(10, 22):
        insider = insider_of(number).invited(("member",), invite=9, uses=99)
        crowd.append((await Reporter.enter(running, insider))[1])
    answers = await asyncio.gather(*(one.report(one.handed(before)) for one in crowd))
    assert [status for status, _ in answers] == [200] * len(crowd)
    nodes = {node for node, _ in (await writer.seen()).registry.models[A].cached_on}
    assert nodes == {one.node for one in crowd}


async def test_report_that_others_are_always_ahead_of_is_made_later(
    documents, writer, plain, monkeypatch
):
    before, _ = await writer.get()
    tried = []

    def always_late(room, body, expected):
        tried.append(expected)
        raise ConflictError("the registry was changed by another node")

    monkeypatch.setattr(documents, "write_registry", always_late)
    status, text = await plain.report(plain.handed(before))
    assert (status, "report later" in text) == (409, True)
    assert len(tried) == TRACKER_REPORT_ATTEMPTS
    monkeypatch.undo()
    assert (await plain.report(plain.handed(before)))[0] == 200


# In a bucket


async def test_report_is_entered_into_the_document_in_the_bucket(
    documents, serving, insiders, insider_of, endpoint, s3
):
    address = OriginAddress(BUCKET, "lab", endpoint)
    lends = Lends(origins={insiders[0].room_id: address})
    place = {"Bucket": BUCKET, "Key": address.registry_key(insiders[0].room_id)}
    async with (
        aiohttp.ClientSession() as http,
        serving(documents, http, lends=lends) as running,
    ):
        talker, writer = await Reporter.enter(running, insiders[0])
        _, plain = await Reporter.enter(running, insider_of(2).invited(("member",), invite=2))
        first = published(writer)
        handed = plain.handed(first, place="origin")
        assert (await plain.report(handed))[0] == 404
        s3.put_object(**place, Body=first)
        status, text = await plain.report(handed)
        assert status == 200, text
        data = s3.get_object(**place)["Body"].read()
        found = verify(parse(data, plain.room), member_verifier(), time.time())
        assert found.registry.models[A].cached_on == ((plain.node, True),)
        assert (await talker.hear_type("registry"))["etag"] == json.loads(text)["etag"]
        assert documents.registry(plain.room) is None
        s3.delete_object(**place)
        s3.delete_bucket(Bucket=BUCKET)
        assert (await plain.report(handed))[0] == 502
        s3.create_bucket(Bucket=BUCKET)
