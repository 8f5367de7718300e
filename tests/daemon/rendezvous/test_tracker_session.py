"""Sessions of several nodes at a real tracker."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import AsyncExitStack

import pytest

from dreamer.daemon.rendezvous.events import (
    MemberGone,
    MemberPresent,
    RegistryChanged,
    RevocationReceived,
    SignalReceived,
    TrackerDown,
    TrackerUp,
    Unreachable,
)
from dreamer.protocol.errors import ConflictError, ForbiddenError, InputError, RemoteError
from dreamer.protocol.ids import InfoHash
from dreamer.protocol.rooms.revocations import Revocation
from dreamer.protocol.swarm.holders import Found
from dreamer.protocol.tracker_limits import (
    TRACKER_CAPABILITIES_MAX_BYTES,
    TRACKER_REGISTRY_MAX_BYTES,
)

COMMAND = [sys.executable, "-m", "dreamer.tracker.main"]
SWARM, OTHER = InfoHash(b"s" * 20), InfoHash(b"o" * 20)


async def found(node, swarm, count: int) -> list:
    """Seek until so many are found: what others announced is on its way."""
    async with asyncio.timeout(10):
        while len(nodes := (await node.session.seek(swarm)).nodes) != count:
            pass
    return list(nodes)


async def test_two_nodes_meet_and_signal(make_node):
    one, two = make_node(1), make_node(2)
    one.session.present({"name": "one"})
    async with one.running():
        assert one.session.connected
        async with two.running():
            assert (await one.next(MemberPresent)).node == two.node_id
            event = await two.next(MemberPresent)
            assert (event.node, event.capabilities) == (one.node_id, {"name": "one"})
            two.session.present({"name": "two"})
            assert (await one.next(MemberPresent)).capabilities == {"name": "two"}
            await one.session.signal(two.node_id, {"offer": "x"})
            assert await two.next(SignalReceived) == SignalReceived(one.node_id, {"offer": "x"})
        assert await one.next(MemberGone) == MemberGone(two.node_id)
        await one.session.signal(two.node_id, {})
        assert await one.next(Unreachable) == Unreachable(two.node_id)
    assert not one.session.connected


async def test_announced_swarms_are_found_and_left(make_node):
    one, two, three = (make_node(number) for number in (1, 2, 3))
    one.session.announce(have=[SWARM], want=[])
    two.session.announce(have=[], want=[SWARM, OTHER])
    async with AsyncExitStack() as stack:
        for node in (one, two, three):
            await stack.enter_async_context(node.running())
        assert sorted(await found(three, SWARM, 2)) == sorted([one.node_id, two.node_id])
        assert await found(one, SWARM, 1) == [two.node_id]
        two.session.announce(have=[OTHER], want=[])
        assert await found(three, SWARM, 1) == [one.node_id]
        assert await found(three, OTHER, 1) == [two.node_id]


async def test_seeks_at_the_same_time_are_all_answered(make_node):
    async with make_node(1).running() as one:
        seeks = [one.session.seek(swarm) for swarm in (SWARM, OTHER, SWARM)]
        assert await asyncio.gather(*seeks) == [Found()] * 3


async def test_who_has_all_of_a_model_is_told_from_those_that_fetch_it(make_node):
    one, two, three = (make_node(number) for number in (1, 2, 3))
    one.session.announce(have=[SWARM], want=[])
    two.session.announce(have=[], want=[SWARM])
    async with one.running(), two.running(), three.running():
        assert len(await found(three, SWARM, 2)) == 2
        said = await three.session.seek(SWARM)
        assert said == Found((one.node_id, two.node_id), (one.node_id,))
        two.session.announce(have=[SWARM], want=[])
        async with asyncio.timeout(10):
            while len(said.whole) < 2:
                said = await three.session.seek(SWARM)


async def test_registry_is_written_read_and_defended(make_node):
    async with make_node(1).running() as one, make_node(2).running() as two:
        assert await one.session.read_registry() is None
        etag = await one.session.write_registry(b'{"n":1}', None)
        assert await two.next(RegistryChanged) == RegistryChanged(etag)
        assert await two.session.read_registry() == (b'{"n":1}', etag)
        assert await two.session.read_registry() == (b'{"n":1}', etag)
        newer = await two.session.write_registry(b'{"n":2}', etag)
        for stale in (etag, None):
            with pytest.raises(ConflictError, match="read it again"):
                await one.session.write_registry(b'{"n":3}', stale)
        assert await one.session.read_registry() == (b'{"n":2}', newer)


async def test_large_registry_goes_through_and_a_larger_one_is_refused(make_node):
    async with make_node(1).running() as one:
        body = b'{"n":"' + b"x" * (TRACKER_REGISTRY_MAX_BYTES - 10) + b'"}'
        etag = await one.session.write_registry(body, None)
        with pytest.raises(InputError, match="can't take this registry"):
            await one.session.write_registry(body + b" " * 100, etag)
        with pytest.raises(InputError, match="JSON object"):
            await one.session.write_registry(b"[]", etag)


async def test_member_who_may_not_publish_is_told(make_node):
    async with make_node(1, roles=("member",)).running() as one:
        with pytest.raises(ForbiddenError, match="publishers"):
            await one.session.write_registry(b"{}", None)


async def test_used_token_is_refused_at_once_with_its_reason(make_node):
    first, second = make_node(1, roles=("member",)), make_node(2, roles=("member",))
    async with first.running():
        pass
    async with second.running(wait=False):
        with pytest.raises(ForbiddenError, match="this invitation has been used"):
            await second.session.wait_connected(10)
        assert "has been used" in (await second.next(TrackerDown)).reason
        assert "has been used" in second.session.last_error
    async with first.running():
        assert first.session.connected


async def test_expired_token_is_refused_at_once(make_node):
    node = make_node(1)
    node.session._chain = node._invited(("member",), lasts_s=60)
    async with node.running(wait=False):
        with pytest.raises(ForbiddenError, match="expired: ask for a new one"):
            await node.session.wait_connected(10)


async def test_revoked_member_hears_of_it_and_is_cut(make_node):
    admin, guest = make_node(1), make_node(2, roles=("member",))
    async with admin.running(), guest.running():
        ended = Revocation(admin.room_id, 1, guest.node_id, 1, admin.chain).signed_by(admin.key)
        await admin.session.revoke(ended)
        assert (await guest.next(RevocationReceived)).revocation == ended
        assert "revoked" in (await guest.next(TrackerDown)).reason
        assert (await admin.next(RevocationReceived)).revocation == ended
        assert (await admin.next(MemberGone)).node == guest.node_id
        with pytest.raises(ForbiddenError, match="revoked"):
            await guest.session.wait_connected(10)


async def test_member_that_was_away_hears_of_revocations_when_it_comes(make_node):
    admin, late, gone = make_node(1), make_node(3), make_node(2)
    async with admin.running():
        ended = Revocation(admin.room_id, 1, gone.node_id, 1, admin.chain).signed_by(admin.key)
        await admin.session.revoke(ended)
        await admin.next(RevocationReceived)
        async with late.running():
            assert (await late.next(RevocationReceived)).revocation == ended


async def test_capabilities_that_fit_here_fit_at_the_tracker(make_node):
    """Both count the same bytes, however many escapes another spelling would need."""
    one, two = make_node(1), make_node(2)
    name = {"name": "é" * ((TRACKER_CAPABILITIES_MAX_BYTES - len('{"name":""}')) // 2)}
    async with one.running(), two.running():
        two.session.present(name)
        async with asyncio.timeout(10):
            while (await one.next(MemberPresent)).capabilities != name:
                pass


async def test_too_large_a_signal_or_capabilities_are_refused_here(make_node):
    async with make_node(1).running() as one:
        with pytest.raises(InputError, match="signal"):
            await one.session.signal(one.node_id, {"sdp": "x" * 70_000})
        with pytest.raises(InputError, match="capabilities"):
            one.session.present({"x": "y" * TRACKER_CAPABILITIES_MAX_BYTES})
        with pytest.raises(InputError, match="JSON"):
            one.session.present({"x": b"bytes"})


class Process:
    """A tracker process that can be killed and started again where it was."""

    def __init__(self, data) -> None:
        self.data = data
        self.listen = "127.0.0.1:0"
        self.url = ""

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "--listen", self.listen, "--data", str(self.data)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self.process.stdout.readline().strip()
        assert self.url
        self.listen = self.url.removeprefix("http://")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def tracker_process(tmp_path):
    process = Process(tmp_path / "data")
    process.start()
    yield process
    process.kill()


async def test_killed_tracker_comes_back_with_registry_members_and_swarms(tracker_process, node_at):
    one = node_at(tracker_process.url, 1)
    two = node_at(tracker_process.url, 2, roles=("member",))
    three = node_at(tracker_process.url, 3)
    one.session.announce(have=[SWARM], want=[])
    one.session.present({"name": "one"})
    async with one.running(), two.running():
        async with three.running():
            assert (await one.next(TrackerUp)) == TrackerUp()
            etag = await one.session.write_registry(b'{"n":1}', None)
            await found(two, SWARM, 1)
            tracker_process.kill()
        assert (await one.next(TrackerDown)).reason
        await two.next(TrackerDown)
        with pytest.raises(RemoteError, match="no connection to tracker"):
            await one.session.seek(SWARM)
        tracker_process.start()
        for node in (one, two):
            await node.next(TrackerUp)
            await node.session.wait_connected(10)
        assert await two.session.read_registry() == (b'{"n":1}', etag)
        assert await found(two, SWARM, 1) == [one.node_id]
        # The third did not come back; whoever comes back first learns so.
        assert three.node_id in [(await node.next(MemberGone)).node for node in (one, two)]


async def test_node_that_has_slept_comes_back_to_its_tracker_at_once(make_node):
    one, two = make_node(1), make_node(2)
    async with one.running(), two.running():
        await one.next(MemberPresent)
        two.session.woke()
        await two.next(TrackerDown)
        await two.next(TrackerUp)
        assert two.session.connected
