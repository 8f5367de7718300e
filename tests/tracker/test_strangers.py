"""What a tracker tells those who don't belong to a room: the same as if there were no such room."""

from __future__ import annotations

import json

import aiohttp
import pytest

from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.rooms.card import swarm_hash
from dreamer.protocol.rooms.membership import chain_to_json
from dreamer.protocol.rooms.revocations import Revocation
from dreamer.tracker.room.terms import Terms

SECRET = b"s" * 32
SWARM = swarm_hash(SECRET, ManifestId(b"m" * 32)).hex()
NO_ROOM = RoomId(b"\x07" * 32).hex()
NAME = "a name that only members may read"


class Lively:
    """A room with two members, a model, and a registry: something to find out about."""

    def __init__(self, running, insiders) -> None:
        self.running = running
        self.insiders = insiders
        self.id = insiders[0].room_id.hex()
        self.secrets = [NAME, SWARM, self.id, *(each.hex for each in insiders)]

    async def come(self) -> None:
        self.members = [await each.enter(self.running) for each in self.insiders]
        talker, welcome = self.members[0]
        self.secrets += [said["session"] for _, said in self.members]
        await talker.say(type="presence", capabilities={"name": NAME})
        await talker.say(type="announce", have=[SWARM])
        bearer = {"Authorization": f"Bearer {welcome['session']}", "If-None-Match": "*"}
        url = f"{self.running.url}/rooms/{self.id}/registry"
        async with self.running.http.put(url, data=b'{"n":1}', headers=bearer) as response:
            assert response.status == 201
        self.secrets.append(response.headers["ETag"].strip('"'))

    def silent_about(self, text: str) -> None:
        for secret in self.secrets:
            assert secret not in text


@pytest.fixture
async def room(running, insiders) -> Lively:
    lively = Lively(running, insiders[:2])
    await lively.come()
    return lively


def paths(tracker) -> list[str]:
    """Return every path that this tracker serves, with ``{room}`` where a room's id belongs."""
    routes = tracker.web_app().router.resources()
    return sorted({resource.canonical for resource in routes})


async def ask(running, method: str, path: str, headers: dict[str, str]) -> tuple:
    """Return all that an answer tells, but for the time of day."""
    async with running.http.request(method, running.url + path, headers=headers) as response:
        told = {name: value for name, value in response.headers.items() if name != "Date"}
        return response.status, told, await response.text()


async def test_every_path_of_a_room_answers_strangers_as_if_there_were_none(
    running, room, insider_of
):
    _, welcome = foreigner = await insider_of(1, room_seed=101).enter(running)
    of_rooms = [path for path in paths(running.tracker) if "{room}" in path]
    assert "/rooms/{room}/registry" in of_rooms
    for path in of_rooms:
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"):
            for bearer in ("", "nonsense", welcome["session"]):
                headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
                here, nowhere = [
                    await ask(running, method, path.format(room=room_id), headers)
                    for room_id in (room.id, NO_ROOM)
                ]
                assert here == nowhere
                assert here[0] in (401, 405)
    assert not foreigner[0].socket.closed


async def test_what_is_for_everybody_says_nothing_of_rooms(running, room, insider_of):
    open_to_all = [path for path in paths(running.tracker) if "{room}" not in path]
    assert {"/", "/stats", "/metrics", "/health", "/ready"} <= set(open_to_all)
    for path in open_to_all:
        for accept in ("*/*", "text/html"):
            status, headers, text = await ask(running, "GET", path, {"Accept": accept})
            assert status in (200, 426)
            room.silent_about(text + json.dumps(headers))


async def test_counts_are_the_same_whatever_happens_in_rooms(running, insiders):
    def counted(text: str) -> list[str]:
        times = ("uptime", "_per_s", "process_", "cpu", "memory", "resident")
        return [line for line in text.splitlines() if not any(word in line for word in times)]

    before = [counted((await running.get(path))[1]) for path in ("/metrics", "/health")]
    stats = await running.stats()
    room = Lively(running, insiders[:2])
    await room.come()
    assert [counted((await running.get(path))[1]) for path in ("/metrics", "/health")] == before
    after = await running.stats()
    assert {key for key in stats if stats[key] != after[key]} <= {"uptime_s"}


async def test_public_side_knows_no_swarm_of_a_room(running, room):
    public = await running.open()
    name = bytes.fromhex(SWARM).decode("latin-1")
    nothing = {"complete": 0, "incomplete": 0, "downloaded": 0}
    await public.say(action="scrape", info_hash=name)
    assert (await public.hear())["files"] == {name: nothing}
    await public.say(action="scrape")
    assert (await public.hear())["files"] == {}
    offer = {"offer_id": "x", "offer": {"type": "offer", "sdp": "v=0"}}
    reply = await public.announce("1" * 20, info_hash=name, offers=[offer])
    assert (reply["complete"], reply["incomplete"]) == (0, 1)
    # And nobody of the room heard of the offer, nor counts the stranger in.
    talker, _ = room.members[0]
    await talker.say(type="seek", swarm=SWARM)
    assert (await talker.hear_type("holders", "signal"))["nodes"] == []


async def test_member_of_another_room_finds_nothing_of_this_one(running, room, insider_of):
    talker, welcome = await insider_of(9, room_seed=101).enter(running)
    assert welcome["members"] == []
    await talker.say(type="announce", want=[SWARM])
    await talker.say(type="seek", swarm=SWARM)
    assert await talker.hear() == {"type": "holders", "swarm": SWARM, "nodes": []}
    for target in (room.insiders[0].hex, "00" * 32):
        await talker.say(type="signal", to=target, body={"kind": "knock"})
        assert await talker.hear() == {"type": "unreachable", "node": target}
    first, _ = room.members[0]
    await first.say(type="seek", swarm=SWARM)
    assert (await first.hear_type("holders", "signal"))["nodes"] == []


async def test_same_node_in_two_rooms_is_two_members(running, insider_of):
    here, there = insider_of(1), insider_of(1, room_seed=101)
    talker, _ = await here.enter(running)
    await talker.say(type="announce", have=[SWARM])
    await talker.say(type="presence", capabilities={"name": NAME})
    neighbour, _ = await insider_of(2, room_seed=101).enter(running)
    other, welcome = await there.enter(running)
    assert [each["node"] for each in welcome["members"]] == [insider_of(2).hex]
    assert (await neighbour.hear())["capabilities"] == {}
    await neighbour.say(type="seek", swarm=SWARM)
    assert (await neighbour.hear())["nodes"] == []
    await other.close()
    assert (await neighbour.hear())["type"] == "left"
    await talker.say(type="seek", swarm=SWARM)
    assert (await talker.hear())["type"] == "holders"


@pytest.mark.parametrize("wrong", ["sig", "chain", "dialled", "form"])
async def test_login_of_a_stranger_gets_one_answer_for_every_room(
    running, room, insider_of, wrong, refusal
):
    """Whether the room is unknown, known to this tracker, or full of members."""
    answers = []
    for seed in (100, 102):
        stranger = insider_of(9, room_seed=seed)
        changes: dict = {
            "sig": {"sig": "11" * 64},
            "chain": {"chain": chain_to_json(insider_of(9, room_seed=103).chain)},
            "dialled": {"dialled": "elsewhere:1"},
            "form": {"chain": []},
        }[wrong]
        answers.append(await refusal(stranger, running, **changes))
    assert answers[0] == answers[1]
    room.silent_about(json.dumps(answers).replace("elsewhere:1", ""))


async def test_stranger_does_not_learn_which_rooms_a_tracker_serves(
    documents, serving, insider_of, refusal
):
    ours = insider_of(1)
    async with (
        aiohttp.ClientSession() as http,
        serving(documents, http, Terms(frozenset([ours.room_id]))) as running,
    ):
        listed, unlisted = [
            await refusal(insider_of(9, room_seed=seed), running, sig="11" * 64)
            for seed in (100, 101)
        ]
        assert listed == unlisted
        assert "wrong signature" in listed["message"]


async def revoke(admin, talker, node: str) -> None:
    unsigned = Revocation(admin.room_id, 1, NodeId(bytes.fromhex(node)), 1, admin.chain)
    await talker.say(type="revoke", revocation=unsigned.signed_by(admin.key).to_json())


async def test_revoked_member_hears_no_more_of_the_room(running, insider_of, refusal):
    admin, gone = insider_of(1), insider_of(2).invited()
    boss, _ = await admin.enter(running)
    talker, welcome = await gone.enter(running)
    await revoke(admin, boss, gone.hex)
    assert (await talker.hear_type("refused"))["code"] == "revoked"
    late, _ = await insider_of(3).enter(running)
    await late.say(type="presence", capabilities={"name": NAME})
    await late.say(type="announce", have=[SWARM])
    assert await talker.closed()
    said = await refusal(gone, running)
    assert set(said) == {"type", "code", "message"}
    await _sees_nothing(running, gone, welcome)


async def test_revoked_member_still_on_its_socket_is_not_served(running, insider_of):
    """What it sends in the moment before its socket is closed reaches nobody."""
    admin, gone = insider_of(1), insider_of(2).invited()
    boss, _ = await admin.enter(running)
    talker, _ = await gone.enter(running)
    await boss.hear_type("joined")
    await revoke(admin, boss, gone.hex)
    for _ in range(50):
        await talker.say(type="signal", to=admin.hex, body={"kind": "knock"})
    await talker.hear_type("refused")
    for _ in range(50):
        if not talker.socket.closed:
            await talker.say(type="signal", to=admin.hex, body={"late": True})
    assert await talker.closed()
    assert (await boss.hear_type("left"))["node"] == gone.hex
    await boss.say(type="seek", swarm=SWARM)
    assert (await boss.hear_type("holders", "signal"))["type"] == "holders"


async def test_expired_member_hears_no_more_of_the_room(running, insider_of, refusal):
    keeper, gone = insider_of(1), insider_of(2)
    other, _ = await keeper.enter(running)
    talker, welcome = await gone.enter(running)
    guest = running.tracker._room._rooms.guests(gone.room_id)[1]
    object.__setattr__(guest.member, "not_after", 1)
    running.tracker.sweep(0.0)
    assert (await talker.hear_type("refused"))["code"] == "expired"
    assert (await other.hear_type("left"))["node"] == gone.hex
    await other.say(type="presence", capabilities={"name": NAME})
    assert await talker.closed()
    await _sees_nothing(running, gone, welcome)


async def _sees_nothing(running, gone, welcome) -> None:
    bearer = {"Authorization": f"Bearer {welcome['session']}"}
    for path in paths(running.tracker):
        if "{room}" in path:
            here = await ask(running, "GET", path.format(room=gone.room_id.hex()), bearer)
            nowhere = await ask(running, "GET", path.format(room=NO_ROOM), {})
            assert here == nowhere
