"""A peer is killed amid its answer, and OpenAI's client sees one unbroken stream."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest
from openai import OpenAI

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import Node, until
from dreamer.simulations.tiny_model import TinyShape, write_tiny_gguf

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

# Slow enough that its node can be killed between two tokens.
SLOW = TinyShape(layers=10, hidden=512, intermediate=2048, heads=8, kv_heads=4)
TOKENS = 60
ASKED = {
    "model": "slow",
    "messages": [{"role": "user", "content": "Tell me a long story."}],
    "max_tokens": TOKENS,
    "temperature": 1.0,
    "seed": 11,
}


@pytest.fixture
def servers(keeper_node, tmp_path_factory) -> Iterator[dict[str, Node]]:
    """Two nodes by their ids: both have the slow model and run it for others."""
    root = tmp_path_factory.mktemp("pair")
    write_tiny_gguf(root / "slow.gguf", shape=SLOW)
    keeper_node.decoder(root / "slow.gguf", "slow")
    env = {"DREAMER_INFERENCE_SERVE_PEERS": "true", "DREAMER_INFERENCE_THREADS": "1"}
    with Node(root / "one", env=env) as one, Node(root / "two", env=env) as two:
        found = {}
        for node in (one, two):
            invitation = Dreamer(keeper_node.node.home).invite("lab", ("member",))
            Dreamer(node.home).join_room(invitation)
            node.dreamer("pull", "slow", "--room", "lab")
            # Loaded already: the stream shall not wait for that.
            node.dreamer("run", "slow", "hi", "--max-tokens", "4", "--where", "local")
            found[node.dreamer("status")["node_id"]] = node
        yield found


def kill(node: Node) -> None:
    """End a daemon at once, with all that it started."""
    parent = psutil.Process(node.process.pid)
    for process in (parent, *parent.children(recursive=True)):
        process.kill()
    node.process.kill()


def test_peer_killed_mid_stream_leaves_the_stream_whole(keeper_node, servers):
    names = {node.home.name for node in servers.values()}

    def both_seen() -> bool:
        peers = Dreamer(keeper_node.node.home).peers()
        return names <= {peer.name for peer in peers if peer.present and peer.serves}

    until(both_seen, "both servers serving", 60)
    with OpenAI(
        base_url=f"{keeper_node.url}/v1", api_key=keeper_node.token, max_retries=0
    ) as client:
        whole = client.chat.completions.create(**ASKED).choices[0].message.content
        raw = client.chat.completions.with_raw_response.create(
            **ASKED,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"X-Dreamer-Prefer": "peer"},
        )
        runner = raw.headers["x-dreamer-node"]
        pieces, ids = [], set()
        for number, chunk in enumerate(raw.parse()):
            if number == 5:
                kill(servers[runner])
            ids.add(chunk.id)
            pieces += [choice.delta.content or "" for choice in chunk.choices]
    assert "".join(pieces) == whole
    assert chunk.usage.completion_tokens == TOKENS
    assert len(ids) == 1
