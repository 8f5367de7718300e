"""Peers of an earlier version get what they understand, and nothing that they would get wrong."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest

from dreamer.daemon.inference.requests import GenerateRequest, Message
from dreamer.daemon.inference.tools import ToolCall, Tools
from dreamer.daemon.offload.wire import pack, unpack
from dreamer.protocol.errors import RemoteError
from dreamer.protocol.inference_limits import GENERATE_MAX_TOKENS
from dreamer.protocol.link.offload_messages import OFFLOAD

TOOLS = Tools('[{"type": "function", "function": {"name": "f"}}]', "required", "f", parallel=False)
TURNS = (
    Message("user", "hi"),
    Message("assistant", "", (ToolCall("f", "{}", "call_1"),)),
    Message("tool", "ok", (), "call_1", "f"),
)
ASKED = GenerateRequest(messages=TURNS, tools=TOOLS, context=64, truncate=True, open_ended=True)


@pytest.fixture
def make(offloading):
    def made(near: int, far: int, **options):
        links = (
            offloading.link_to(offloading.NEAR, "near", 0.01),
            offloading.link_to(offloading.FAR, "far", 0.5),
        )
        for link, version in zip(links, (near, far), strict=True):
            link.capabilities[OFFLOAD] = version
        scripts = {name: offloading.Script(*offloading.whole(name)) for name in ("near", "far")}
        session = offloading.Session(*links)
        return offloading.Offloading(offloading.Peers(**scripts), session=session, **options)

    return made


def test_every_field_reaches_a_peer() -> None:
    assert unpack(GenerateRequest, pack(ASKED)) == ASKED


def test_request_of_an_earlier_version_is_understood() -> None:
    told = msgpack.unpackb(pack(GenerateRequest(messages=TURNS[:1])))
    for name in ("tools", "context", "truncate", "open_ended"):
        del told[name]
    told["messages"] = [{"role": "user", "content": "hi"}]
    assert unpack(GenerateRequest, msgpack.packb(told)) == GenerateRequest(messages=TURNS[:1])


def test_longest_answer_may_go_on_elsewhere_beside_the_longest_prompt() -> None:
    tokens = tuple(range(GENERATE_MAX_TOKENS - 1))
    tools = Tools("x" * (128 * 1024))
    turns = (Message("user", "x" * (192 * 1024)),)
    asked = GenerateRequest(messages=turns, tools=tools, max_tokens=GENERATE_MAX_TOKENS)
    assert pack(replace(asked, token_ids_so_far=tokens))


@pytest.mark.parametrize(
    "asked", [GenerateRequest(messages=TURNS[:1], tools=TOOLS), GenerateRequest(messages=TURNS)]
)
async def test_request_with_tools_goes_to_those_that_know_of_them(make, asked) -> None:
    node = make(near=1, far=2)
    await node.run(asked)
    assert node.peers.asked == ["far"]


async def test_request_with_tools_that_nobody_would_understand_is_refused(make) -> None:
    node = make(near=1, far=1)
    with pytest.raises(RemoteError, match="knows nothing of tools and thinking: update"):
        await node.run(GenerateRequest(messages=TURNS[:1], tools=TOOLS))
    assert node.peers.asked == []


@pytest.mark.parametrize(("version", "most"), [(1, 4096), (2, 100_000), (3, 100_000)])
async def test_earlier_peers_are_asked_for_what_they_give(make, version, most) -> None:
    node = make(near=version, far=version)
    await node.run(GenerateRequest(messages=TURNS[:1], max_tokens=100_000))
    (asked,) = node.peers.scripts["near"].asked
    assert asked.max_tokens == most
