from __future__ import annotations

import asyncio

import aiohttp
import pytest

from dreamer.protocol.ids import NodeId
from dreamer.protocol.rooms.keys import Purpose
from dreamer.protocol.rooms.membership import chain_to_json, verify_chain
from dreamer.protocol.rooms.revocations import Revocation
from dreamer.protocol.swarm.committee import rank

SWARM = "ab" * 20


async def test_transcript_of_two_members_meeting(running, insiders):
    one, two = insiders[:2]
    first, welcome = await one.enter(running)
    assert welcome["members"] == []
    await first.say(type="presence", capabilities={"name": "one"})
    second, welcome = await two.enter(running)
    assert welcome["members"] == [{"node": one.hex, "capabilities": {"name": "one"}}]
    assert await first.hear() == {"type": "joined", "node": two.hex, "capabilities": {}}
    await second.say(type="presence", capabilities={"name": "two"})
    assert (await first.hear())["capabilities"] == {"name": "two"}
    await first.say(type="signal", to=two.hex, body={"sdp": "offer"})
    assert await second.hear() == {"type": "signal", "from": one.hex, "body": {"sdp": "offer"}}
    await second.close()
    assert await first.hear() == {"type": "left", "node": two.hex}
    await first.say(type="signal", to=two.hex, body={})
    assert await first.hear() == {"type": "unreachable", "node": two.hex}


async def test_seek_finds_those_who_have_or_want_but_not_the_asker(running, insiders):
    talkers = [(await insider.enter(running))[0] for insider in insiders[:3]]
    await talkers[0].say(type="announce", have=[SWARM])
    await talkers[1].say(type="announce", want=[SWARM])
    await talkers[2].say(type="announce", have=[SWARM])
    for talker in talkers[:2]:  # an answer shows that what was said before has been taken in
        await talker.say(type="seek", swarm="00" * 20)
        assert (await talker.hear_type("holders"))["nodes"] == []
    await talkers[2].say(type="seek", swarm=SWARM)
    found = await talkers[2].hear_type("holders")
    assert sorted(found["nodes"]) == sorted(insider.hex for insider in insiders[:2])
    await talkers[0].say(type="announce", gone=[SWARM, "00" * 20])
    await talkers[0].say(type="seek", swarm=SWARM)
    found = await talkers[0].hear_type("holders")
    assert sorted(found["nodes"]) == sorted(insider.hex for insider in insiders[1:3])
    await talkers[1].close()
    await talkers[0].hear_type("left")
    await talkers[0].say(type="seek", swarm=SWARM)
    assert (await talkers[0].hear_type("holders"))["nodes"] == [insiders[2].hex]


async def test_answer_says_who_is_whole_and_in_a_large_crowd_who_fetches_for_all(
    running, insiders, monkeypatch
):
    for module in ("holders", "committee"):
        monkeypatch.setattr(f"dreamer.protocol.swarm.{module}.CROWD_COMMITTEE", 2)
    monkeypatch.setattr("dreamer.protocol.swarm.holders.CROWD_FETCHING_PER_WHOLE", 3)
    talkers = [(await insider.enter(running))[0] for insider in insiders[:5]]
    told = []
    for talker, said in zip(talkers, ("have", "want", "want", "want", "want"), strict=True):
        await talker.say(type="announce", **{said: [SWARM]})
        await talker.say(type="seek", swarm=SWARM)
        told.append(await talker.hear_type("holders"))
    first, last = told[1], told[4]
    assert (first["nodes"], first["whole"]) == ([insiders[0].hex], 1)
    assert "committee" not in first
    fetching = [bytes.fromhex(one.hex) for one in insiders[1:5]]
    chosen = sorted(fetching, key=lambda node: rank(bytes.fromhex(SWARM), node))[:2]
    assert last["committee"] == [node.hex() for node in chosen]


async def test_rooms_know_nothing_of_each_other_nor_does_the_public(running, insider_of):
    here, there = insider_of(1), insider_of(2, room_seed=101)
    first, _ = await here.enter(running)
    await first.say(type="announce", have=[SWARM])
    second, welcome = await there.enter(running)
    assert welcome["members"] == []
    await second.say(type="seek", swarm=SWARM)
    assert (await second.hear())["nodes"] == []
    await second.say(type="signal", to=here.hex, body={})
    assert (await second.hear())["type"] == "unreachable"
    stats = await running.stats()
    assert (stats["swarms"], stats["sockets"], stats["messages"]) == (0, 0, 0)
    public = await running.open()
    await public.say(action="scrape")
    assert (await public.hear())["files"] == {}


async def test_newer_socket_of_a_node_replaces_the_older(running, insiders):
    older, _ = await insiders[0].enter(running)
    other, _ = await insiders[1].enter(running)
    await older.hear_type("joined")
    newer, _ = await insiders[0].enter(running)
    assert "elsewhere" in (await older.hear_type("refused"))["message"]
    assert await older.closed()
    await other.say(type="signal", to=insiders[0].hex, body={"n": 1})
    assert (await newer.hear_type("signal"))["body"] == {"n": 1}


async def test_signature_by_another_key_is_refused(running, insiders, refusal):
    one, two = insiders[:2]
    said = await refusal(one, running, node=two.hex)
    assert (said["code"], "wrong signature" in said["message"]) == ("forbidden", True)


async def test_signature_made_for_another_purpose_is_refused(running, insiders):
    one = insiders[0]
    talker = await running.open("/room")
    nonce = bytes.fromhex((await talker.hear())["nonce"])
    name = running.url.removeprefix("http://")
    message = nonce + one.room_id + one.key.public + name.encode()
    await talker.say(
        type="login",
        room=one.room_id.hex(),
        node=one.hex,
        tracker=name,
        chain=chain_to_json(one.chain),
        sig=one.key.sign(Purpose.LINK, message).hex(),
    )
    assert (await talker.hear())["code"] == "forbidden"


async def test_replayed_login_is_refused(running, insiders, refusal):
    one = insiders[0]
    name = running.url.removeprefix("http://").encode()
    old = one.key.sign(Purpose.TRACKER_LOGIN, bytes(32) + one.room_id + one.key.public + name)
    assert (await refusal(one, running, sig=old.hex()))["code"] == "forbidden"


async def test_chain_of_somebody_else_is_refused(running, insiders, refusal):
    said = await refusal(insiders[0], running, chain=chain_to_json(insiders[1].chain))
    assert "another node's" in said["message"]


async def test_chain_from_another_room_is_refused(running, insider_of, refusal):
    foreign = insider_of(1, room_seed=101)
    said = await refusal(insider_of(1), running, chain=chain_to_json(foreign.chain))
    assert said["code"] == "forbidden"


@pytest.mark.parametrize(
    "change",
    [{"type": "presence"}, {"room": "x"}, {"chain": []}, {"chain": [{}]}, {"sig": None}],
)
async def test_malformed_login_is_refused(running, insiders, change, refusal):
    said = await refusal(insiders[0], running, **change)
    assert said["code"] == "bad_input"


async def test_single_use_invitation_lets_one_node_in_for_good(running, insider_of, refusal):
    one, two = insider_of(1).invited(), insider_of(2).invited()
    talker, _ = await one.enter(running)
    said = await refusal(two, running)
    assert (said["code"], "has been used" in said["message"]) == ("used", True)
    await talker.close()
    await one.enter(running)


async def test_invitation_for_two_lets_two_in(running, insider_of, refusal):
    nodes = [insider_of(number).invited(uses=2) for number in (1, 2, 3)]
    await nodes[0].enter(running)
    await nodes[1].enter(running)
    assert (await refusal(nodes[2], running))["code"] == "used"


async def test_simultaneous_logins_cannot_share_one_use(running, insider_of):
    nodes = [insider_of(number).invited() for number in range(1, 9)]
    talkers = await asyncio.gather(*(node.knock(running) for node in nodes))
    said = [(await talker.hear_type("welcome", "refused"))["type"] for talker in talkers]
    assert sorted(said) == ["refused"] * 7 + ["welcome"]


async def test_expired_invitation_is_refused_but_who_was_in_before_stays_in(
    running, documents, insider_of, refusal
):
    early, late = (insider_of(n).invited(uses=9, lasts_s=1000.0) for n in (1, 2))
    use = _admissions(early)
    documents.redeem(early.room_id, use, now=0.0)
    await early.enter(running)
    assert (await refusal(late, running))["code"] == "expired"


def _admissions(insider):
    issued_at = float(insider.chain[0].issued_at)
    return verify_chain(insider.room_id, insider.chain, issued_at).admissions


async def test_spent_admin_invitation_cannot_make_paper_admins(running, insider_of, refusal):
    """A second holder of a used invitation invites a friend from a membership nobody checked."""
    admin = insider_of(1).invited(("admin",))
    await admin.enter(running)
    thief, friend = insider_of(2).invited(("admin",)), insider_of(3)
    friend.room_key, own_room = thief.key, friend.room_key
    friend.invited(invite=2)
    friend.room_key = own_room
    friend.chain = (*thief.chain, *friend.chain)
    assert (await refusal(friend, running))["code"] == "used"


def revocation(admin, of, number=1) -> dict:
    unsigned = Revocation(admin.room_id, number, NodeId(of.key.public), 1, admin.chain)
    return unsigned.signed_by(admin.key).to_json()


async def test_revoked_member_is_cut_and_stays_out(running, insider_of, refusal):
    admin, guest = insider_of(1), insider_of(2).invited()
    boss, _ = await admin.enter(running)
    talker, welcome = await guest.enter(running)
    await boss.say(type="revoke", revocation=revocation(admin, guest))
    assert (await talker.hear_type("revoked"))["revocation"]["node"] == guest.hex
    assert (await talker.hear())["code"] == "revoked"
    assert await talker.closed()
    assert (await boss.hear_type("left"))["node"] == guest.hex
    assert (await refusal(guest, running))["code"] == "revoked"
    bearer = {"Authorization": f"Bearer {welcome['session']}"}
    path = f"/rooms/{guest.room_id.hex()}/registry"
    assert (await running.get(path, headers=bearer))[0] == 401


async def test_member_without_the_role_cannot_revoke(running, insider_of):
    admin, guest = insider_of(1), insider_of(2).invited()
    await admin.enter(running)
    talker, _ = await guest.enter(running)
    await talker.say(type="revoke", revocation=revocation(guest, admin))
    said = await talker.hear_type("error")
    assert (said["code"], "admins" in said["message"]) == ("forbidden", True)


async def test_membership_that_ends_is_cut_by_the_sweep(running, insider_of):
    insider = insider_of(1)
    talker, _ = await insider.enter(running)
    room = running.tracker._room
    guest = room._rooms.guests(insider.room_id)[0]
    object.__setattr__(guest.member, "not_after", 1)
    running.tracker.sweep(0.0)
    assert (await talker.hear())["code"] == "expired"
    assert await talker.closed()


@pytest.mark.parametrize(
    "said",
    [
        {"type": "dance"},
        {"type": "presence"},
        {"type": "presence", "capabilities": {"x": "y" * 4096}},
        {"type": "announce", "have": [1]},
        {"type": "announce", "want": ["ab"]},
        {"type": "announce", "have": [SWARM] * 501},
        {"type": "seek"},
        {"type": "signal", "to": "x", "body": {}},
        {"type": "signal", "to": "00" * 32, "body": "text"},
        {"type": "revoke"},
        {},
    ],
)
async def test_malformed_message_is_answered_and_the_session_goes_on(running, insiders, said):
    talker, _ = await insiders[0].enter(running)
    await talker.say(**said)
    assert (await talker.hear())["type"] == "error"
    await talker.say(type="seek", swarm=SWARM)
    assert (await talker.hear())["type"] == "holders"


async def test_member_that_sends_junk_is_cut_off(running, insiders):
    talker, _ = await insiders[0].enter(running)
    for _ in range(100):
        await talker.socket.send_str("junk")
        assert (await talker.hear())["type"] == "error"
    assert await talker.closed()


async def test_who_does_not_log_in_is_cut_off(running, monkeypatch):
    monkeypatch.setattr("dreamer.tracker.room.socket.TRACKER_AUTH_TIMEOUT_S", 0.05)
    talker = await running.open("/room")
    assert (await talker.hear())["type"] == "challenge"
    assert await talker.closed()


async def test_full_room_refuses_for_now(running, insiders, monkeypatch, refusal):
    monkeypatch.setattr("dreamer.tracker.room.rooms.TRACKER_ROOM_MAX_MEMBERS", 1)
    first = await insiders[0].enter(running)
    assert (await refusal(insiders[1], running))["code"] == "full"
    # Coming again, it takes its own place.
    assert await insiders[0].enter(running) != first


async def test_shutdown_says_goodbye(documents, serving, insiders):
    async with aiohttp.ClientSession() as http:
        async with serving(documents, http) as running:
            member, _ = await insiders[0].enter(running)
            public = await running.open()
            await public.announce("1" * 20)
            closing = [asyncio.create_task(talker.closed()) for talker in (member, public)]
            await asyncio.sleep(0)
        assert await asyncio.gather(*closing) == [True, True]
        assert member.socket.close_code == public.socket.close_code == 1001
