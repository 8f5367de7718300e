"""Where a run request ends up: here, or on the first peer that begins to answer."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace

import pytest

from dreamer.daemon.inference.requests import Ended, GenerateRequest, Started, Text
from dreamer.daemon.links.link import Link
from dreamer.daemon.offload.running import Runs
from dreamer.daemon.ports import RunEnded, RunRequest, RunStarted, RunText
from dreamer.protocol.errors import (
    ForbiddenError,
    InputError,
    LocalError,
    NoMatchError,
    RemoteError,
)
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.swarm.vocabulary import Lane

ROOM, MODEL_ID = RoomId(b"r" * 32), ManifestId(b"m" * 32)
US, NEAR, FAR = (NodeId(bytes([n]) * 32) for n in (1, 2, 3))
MODEL = SimpleNamespace(manifest_id=MODEL_ID, name="tiny")
ANSWER = [RunText("hi", 1), RunEnded("stop", 1, 1, 0.1, 0.2)]


class Peers:
    """An ``OffloadAsking`` whose peers answer as they are told to."""

    def __init__(self, **answers) -> None:
        self.answers = answers
        self.asked = []

    async def run(self, link, manifest_id, prompt, max_tokens):
        self.asked.append(link.name)
        for event in self.answers[link.name]:
            if isinstance(event, Exception):
                raise event
            yield event


def link_to(peer, name, rtt_s, serves=True):
    return Link(
        1, ROOM, peer, Lane.WEBRTC, {"name": name, "serves": serves}, print, 0.0, rtt_s=rtt_s
    )


class Session:
    """A room in which two peers hold the model."""

    room_id = ROOM

    def __init__(self, *links) -> None:
        self._links = {link.peer: link for link in links}
        self.present = {link.peer: link.capabilities for link in links}
        self.links = SimpleNamespace(
            own=US,
            rng=Random(1),
            links=links,
            coming_up=[],
            connect=lambda peer: None,
            link=self._links.get,
        )

    async def holders(self, manifest_id):
        return list(self._links)


class Pool:
    async def generate(self, path, manifest_id, request):
        yield Started(manifest_id, 1)
        yield Text("here", (1, 2))
        yield Ended("length", 1, 2, 0.1, 0.2)


def runs(peers, held=False):
    store = SimpleNamespace(manifest=lambda _: object(), lay_out=lambda *_: "/model")
    state = SimpleNamespace(model=lambda _: SimpleNamespace(name="tiny"))
    return Runs(US, "us", store, state, Pool(), lambda *_: held, {ROOM: peers})


async def run(peers, where="auto", held=False, session=None):
    session = session or Session(link_to(FAR, "far", 0.5), link_to(NEAR, "near", 0.01))
    request = RunRequest("tiny", "hello", where=where)
    return [event async for event in runs(peers, held).run(session, MODEL, request)]


async def test_a_model_that_is_here_runs_here() -> None:
    peers = Peers()
    assert await run(peers, held=True) == [
        RunStarted("local", US.hex(), "us", MODEL_ID.hex()),
        RunText("here", 2),
        RunEnded("length", 1, 2, 0.1, 0.2),
    ]
    assert peers.asked == []


@pytest.mark.parametrize(("where", "held"), [("auto", False), ("peer", False), ("peer", True)])
async def test_the_nearest_peer_answers(where, held) -> None:
    peers = Peers(near=ANSWER, far=ANSWER)
    started, *answer = await run(peers, where, held)
    assert started == RunStarted("peer", NEAR.hex(), "near", MODEL_ID.hex())
    assert answer == ANSWER
    assert peers.asked == ["near"]


@pytest.mark.parametrize(
    "error",
    [
        RemoteError("lost the link"),
        LocalError("it runs as many requests as it takes"),
        ForbiddenError("it does not run models for others"),
    ],
)
async def test_a_peer_that_can_not_is_passed_over(error) -> None:
    peers = Peers(near=[error], far=ANSWER)
    started, *answer = await run(peers)
    assert started.node_name == "far"
    assert answer == ANSWER


async def test_a_request_that_is_wrong_everywhere_is_not_tried_elsewhere() -> None:
    peers = Peers(near=[InputError("the prompt does not fit")], far=ANSWER)
    with pytest.raises(InputError):
        await run(peers)
    assert peers.asked == ["near"]


async def test_when_no_peer_can_the_last_reason_is_told() -> None:
    with pytest.raises(LocalError, match="busy"):
        await run(Peers(near=[RemoteError("gone")], far=[LocalError("busy")]))


async def test_an_answer_that_has_begun_is_not_begun_again_elsewhere() -> None:
    peers = Peers(near=[RunText("half", 1), RemoteError("lost the link")], far=ANSWER)
    with pytest.raises(RemoteError, match="lost the link"):
        await run(peers)
    assert peers.asked == ["near"]


async def test_peers_that_do_not_serve_are_not_asked() -> None:
    with pytest.raises(RemoteError, match="serve_peers = true"):
        await run(Peers(near=ANSWER), session=Session(link_to(NEAR, "near", 0.1, serves=False)))


async def test_asked_to_run_here_what_is_not_here_says_what_to_do() -> None:
    with pytest.raises(RemoteError, match="pull it first"):
        await run(Peers(near=ANSWER), where="local")


@pytest.mark.parametrize("tokens", [0, 10**6])
async def test_an_impossible_request_is_refused_before_it_starts(tokens) -> None:
    request = RunRequest("tiny", "hello", max_tokens=tokens)
    with pytest.raises(InputError):
        async for _ in runs(Peers(), held=True).run(Session(), MODEL, request):
            pass


async def test_a_model_that_is_not_of_this_room_is_not_run_for_its_members() -> None:
    with pytest.raises(NoMatchError, match="pull it first"):
        async for _ in runs(Peers(), held=False).generate(ROOM, MODEL_ID, GenerateRequest("x")):
            pass
