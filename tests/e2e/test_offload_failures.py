"""What was killed when, and what the client saw: the same text, whoever finishes it.

Real daemons on loopback. B asks; the servers S1 and S2 run the model for others. Each test takes
something away at a moment of one answer and compares what came with the answer of a node that was
left in peace. The matrix is printed at the end (``pytest -s``).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import psutil
import pytest

from dreamer.daemon.client import Dreamer
from dreamer.daemon.surfaces.inference import RunEnded, RunStarted, RunText
from dreamer.protocol.errors import DreamerError, RemoteError
from dreamer.simulations.loopback import Node, until
from dreamer.simulations.tiny_model import TinyShape, write_tiny_gguf

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

# Slow enough that something can be taken away between two tokens.
SLOW = TinyShape(layers=10, hidden=512, intermediate=2048, heads=8, kv_heads=4)
PROMPT = "Tell me what the peers said to each other, at length."
TOKENS = 60
WAIT_S = 60.0
MATRIX: list[tuple[str, str, str]] = []
GREEDY = {"temperature": 0.0}
DRAWN = {"temperature": 1.5, "seed": 4711}


@dataclass
class Heard:
    """One answer as the client had it."""

    started: list[RunStarted] = field(default_factory=list)
    pieces: list[RunText] = field(default_factory=list)
    ended: RunEnded | None = None
    error: DreamerError | None = None
    seconds: float = 0.0

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def tokens(self) -> int:
        return sum(piece.tokens for piece in self.pieces)

    @property
    def names(self) -> list[str]:
        return [one.node_name for one in self.started]


def ask(
    node: Node,
    then: Callable[[Heard], None] = lambda heard: None,
    after: int = 3,
    *,
    where: str = "peer",
    tokens: int = TOKENS,
    model: str = "talker",
    **options,
) -> Heard:
    """Run the model; ``then`` is called once ``after`` pieces are there."""
    heard, began = Heard(), time.monotonic()
    events = Dreamer(node.home).run_events(model, PROMPT, "lab", tokens, where, **options)
    try:
        with closing(events) as told:
            for event in told:
                match event:
                    case RunStarted():
                        heard.started.append(event)
                    case RunText():
                        heard.pieces.append(event)
                        if len(heard.pieces) == after:
                            then(heard)
                    case RunEnded():
                        heard.ended = event
    except DreamerError as error:
        heard.error = error
    heard.seconds = time.monotonic() - began
    return heard


def seen(what: str, when: str, heard: Heard) -> None:
    """Put a line into the matrix."""
    runners = " -> ".join(heard.names) or "nobody"
    end = f"whole, {heard.tokens} tokens by {runners}" if heard.ended else f"{heard.error!s:.90}"
    MATRIX.append((what, when, f"{end} ({heard.seconds:.1f} s)"))


@pytest.fixture(scope="module", autouse=True)
def matrix():
    yield
    print("\n\nwhat was taken away | when | what the client saw")
    for line in MATRIX:
        print(" | ".join(line))


class Servers:
    """Two nodes that serve, by name; one that a test took away is started anew."""

    def __init__(self, team, keeper: Node) -> None:
        env = {"DREAMER_INFERENCE_SERVE_PEERS": "true", "DREAMER_INFERENCE_THREADS": "1"}
        self.nodes = {name: team.member(name, keeper, env=env) for name in ("server-1", "server-2")}
        for node in self.nodes.values():
            node.dreamer("pull", "talker", "--room", "lab")

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def family(self, name: str) -> list[psutil.Process]:
        """Return the processes of a server: the daemon first, its children after it."""
        parent = psutil.Process(self.nodes[name].process.pid)
        return [parent, *parent.children(recursive=True)]

    def kill(self, name: str) -> None:
        """End a server at once, with all that it started."""
        family = self.family(name)
        for process in family:
            process.kill()
        self.nodes[name].process.kill()

    def revive(self) -> None:
        """Have both servers running, with the model loaded."""
        for node in self.nodes.values():
            if not node.process.running:
                node.start()
        for node in self.nodes.values():
            if ask(node, where="local", tokens=8).error is not None:
                node.dreamer("pull", "talker", "--room", "lab")
                assert ask(node, where="local", tokens=8).ended is not None


def serving(node: Node) -> list[str]:
    """Return the members present that serve."""
    return [peer.name for peer in Dreamer(node.home).peers() if peer.present and peer.serves]


@pytest.fixture(scope="module")
def keeper(team):
    """The node that made the room; it serves nobody."""
    node = team.node("keeper")
    team.room(node, "lab")
    return node


@pytest.fixture(scope="module")
def model(team, keeper):
    """A decoder that takes its time."""
    gguf, directory = team.root / "slow.gguf", team.root / "talker"
    write_tiny_gguf(gguf, shape=SLOW)
    keeper.dreamer("import", str(gguf), "--output", str(directory))
    return keeper.dreamer("push", str(directory), "--room", "lab", "--alias", "talker")


@pytest.fixture(scope="module")
def servers(team, keeper, model):
    return Servers(team, keeper)


@pytest.fixture
def asker(team, keeper, model, servers):
    """A node of each test's own: it links to servers that run, and to no ghost of one."""
    servers.revive()
    env = {"DREAMER_OFFLOAD_ASK": "auto", "DREAMER_OFFLOAD_FIRST_TOKEN_TIMEOUT_S": "3"}
    name = f"asker-{len(list(team.root.iterdir()))}"
    with Node(team.root / name, env=env) as node:
        team.join(node, keeper)
        for server in servers.nodes:
            until(lambda server=server: server in serving(node), f"{server} serving", WAIT_S)
        yield node


@pytest.fixture(scope="module")
def whole(keeper, model):
    """What a node that is left in peace says: greedy, and drawn by a seed."""
    return {
        name: ask(keeper, where="local", **options)
        for name, options in (("greedy", GREEDY), ("drawn", DRAWN))
    }


def same(heard: Heard, whole: Heard) -> None:
    assert heard.error is None
    assert heard.ended is not None
    assert heard.text == whole.text
    assert heard.tokens == heard.ended.completion_tokens == TOKENS


@pytest.mark.parametrize("kind", ["greedy", "drawn"])
def test_a_peer_killed_mid_stream_is_left_for_the_other(servers, asker, whole, kind):
    options = GREEDY if kind == "greedy" else DRAWN
    heard = ask(asker, lambda heard: servers.kill(heard.names[0]), 10, **options)
    seen("peer killed (SIGKILL)", f"after 10 tokens, {kind}", heard)
    same(heard, whole[kind])
    assert len(heard.names) == 2
    assert len(set(heard.names)) == 2


def test_a_peer_that_goes_silent_mid_stream_is_left_for_the_other(servers, asker, whole, watch):
    frozen: list[psutil.Process] = []

    def freeze(heard: Heard) -> None:
        frozen.extend(servers.family(heard.names[0]))
        for process in frozen:
            process.send_signal(signal.SIGSTOP)

    try:
        heard = ask(asker, freeze, 10)
    finally:
        for process in frozen:
            process.send_signal(signal.SIGCONT)
    seen("peer silent (SIGSTOP)", "after 10 tokens", heard)
    same(heard, whole["greedy"])
    assert len(set(heard.names)) == 2


def test_a_peer_that_is_silent_from_the_start_is_left_for_the_other(servers, asker, whole):
    first = ask(asker, tokens=2).names[0]
    frozen = servers.family(first)
    for process in frozen:
        process.send_signal(signal.SIGSTOP)
    try:
        heard = ask(asker)
    finally:
        for process in frozen:
            process.send_signal(signal.SIGCONT)
    seen("peer silent (SIGSTOP)", "before the first token", heard)
    same(heard, whole["greedy"])
    assert heard.names != [first]


def test_a_worker_killed_there_is_replaced_there_or_left(servers, asker, whole):
    def kill_worker(heard: Heard) -> None:
        for process in servers.family(heard.names[0])[1:]:
            if any("inference.worker" in word for word in process.cmdline()):
                process.kill()

    heard = ask(asker, kill_worker, 10)
    seen("the peer's worker process killed", "after 10 tokens", heard)
    same(heard, whole["greedy"])


def test_a_model_removed_there_is_finished_somewhere(servers, asker, whole):
    removed: list[str] = []

    def remove(heard: Heard) -> None:
        removed.append(heard.names[0])
        node = servers[heard.names[0]]
        threading.Thread(target=node.try_dreamer, args=("rm", "talker", "--room", "lab")).start()

    heard = ask(asker, remove, 10)
    seen("model removed at the peer (dreamer rm)", "after 10 tokens", heard)
    same(heard, whole["greedy"])
    again = ask(asker)
    seen("model removed at the peer (dreamer rm)", "before asking", again)
    same(again, whole["greedy"])
    servers[removed[0]].dreamer("pull", "talker", "--room", "lab")


def test_a_link_lost_mid_stream_goes_on_elsewhere(servers, asker, whole):
    def cut(heard: Heard) -> None:
        # What carries the server's links, but not the server.
        for process in servers.family(heard.names[0])[1:]:
            if any("daemon.transport" in word for word in process.cmdline()):
                process.kill()

    heard = ask(asker, cut, 10)
    seen("link lost (transport process killed)", "after 10 tokens", heard)
    same(heard, whole["greedy"])


def test_both_peers_killed_leaves_nobody_and_one_clear_error(servers, asker):
    def kill_all(heard: Heard) -> None:
        for name in servers.nodes:
            servers.kill(name)

    heard = ask(asker, kill_all, 10)
    seen("both peers killed", "after 10 tokens", heard)
    assert isinstance(heard.error, RemoteError)
    assert heard.ended is None
    again = ask(asker)
    seen("both peers killed", "before asking", again)
    assert isinstance(again.error, RemoteError)
    assert "serve_peers" in str(again.error) or "link" in str(again.error)


def test_the_asker_itself_goes_on_when_no_peer_is_left(servers, asker, whole):
    asker.dreamer("pull", "talker", "--room", "lab")
    heard = ask(
        asker,
        lambda heard: [servers.kill(name) for name in servers.nodes],
        10,
        where="fastest",
    )
    seen("both peers killed, model is here", "after 10 tokens", heard)
    same(heard, whole["greedy"])
    assert [one.where for one in heard.started] == ["peer", "local"]
