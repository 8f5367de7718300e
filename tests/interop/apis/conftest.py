"""A real node with models of each kind, for the clients that others wrote of the APIs it speaks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import Node, free_port, tracker
from dreamer.simulations.tiny_embedder import write_tiny_embedder
from dreamer.simulations.tiny_model import TinyShape, write_tiny_gguf

GGUF_VARIABLE = "DREAMER_TEST_GGUF"
TOOL_TEMPLATE = """{%- if tools %}{{- '<|im_start|>system\\n' }}
{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}
{{- 'Call as <tool_call>{"name": …, "arguments": …}</tool_call><|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls %}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}
{%- endfor %}{{- '<|im_end|>\\n' }}{%- endfor %}{{- '<|im_start|>assistant\\n' }}"""


@dataclass(frozen=True)
class ModelsNode:
    """A daemon in a room of its own that listens on its socket and, with ``token``, at ``url``.

    ``grpc`` is the address of its gRPC, for the same token.
    """

    node: Node
    url: str
    token: str
    grpc: str

    @property
    def socket(self) -> Path:
        """The Unix socket, which needs no token."""
        return self.node.home / "run" / "dreamerd.sock"

    def publish(self, directory: Path, alias: str) -> str:
        """Push a model directory under an alias; return its manifest id."""
        said = self.node.dreamer("push", str(directory), "--room", "lab", "--alias", alias)
        return said["manifest_id"]

    def decoder(self, gguf: Path, alias: str) -> str:
        """Import a GGUF and push it under an alias; return its manifest id."""
        directory = self.node.home.parent / alias
        self.node.dreamer("import", str(gguf), "--output", str(directory))
        return self.publish(directory, alias)


@contextmanager
def running_models_node(root: Path, **settings: str) -> Iterator[ModelsNode]:
    """Run a node below ``root`` that holds the tiny decoder, which answers as long as it may."""
    with ExitStack() as stack:
        url = stack.enter_context(tracker(root / "tracker"))
        port, grpc = free_port(), f"127.0.0.1:{free_port()}"
        env = {"DREAMER_API_LISTEN": f"127.0.0.1:{port}", "DREAMER_API_GRPC_LISTEN": grpc}
        node = stack.enter_context(Node(root / "node", env={**env, **settings}))
        node.dreamer("room", "create", "lab", "--tracker", url)
        token = (node.home / "identity" / "api-token").read_text(encoding="ascii").strip()
        made = ModelsNode(node, f"http://127.0.0.1:{port}", token, grpc)
        write_tiny_gguf(root / "tiny.gguf")
        made.decoder(root / "tiny.gguf", "talker")
        yield made


# The paths of Unix sockets must be short, and so the names of the folders are.
@pytest.fixture(scope="session")
def models_node(tmp_path_factory) -> Iterator[ModelsNode]:
    """A node with the tiny decoder as ``talker``, which runs it for peers too."""
    serves = {"DREAMER_INFERENCE_SERVE_PEERS": "true"}
    with running_models_node(tmp_path_factory.mktemp("apis"), **serves) as node:
        yield node


@pytest.fixture(scope="module")
def asking_node(models_node, tmp_path_factory) -> Iterator[ModelsNode]:
    """A node in the same room without any model, which has its peers run them."""
    port = free_port()
    env = {"DREAMER_API_LISTEN": f"127.0.0.1:{port}", "DREAMER_OFFLOAD_ASK": "auto"}
    with Node(tmp_path_factory.mktemp("asks") / "node", env=env) as node:
        keeper = Dreamer(models_node.node.home)
        Dreamer(node.home).join_room(keeper.invite("lab", ("member",)))
        token = (node.home / "identity" / "api-token").read_text(encoding="ascii").strip()
        yield ModelsNode(node, f"http://127.0.0.1:{port}", token, "")


@pytest.fixture
def narrow_node(tmp_path_factory) -> Iterator[ModelsNode]:
    """The same with one slot, and room for one who waits."""
    settings = {"DREAMER_INFERENCE_SLOTS": "1", "DREAMER_INFERENCE_QUEUE": "1"}
    with running_models_node(tmp_path_factory.mktemp("few"), **settings) as node:
        yield node


@pytest.fixture
def keeper_node(tmp_path_factory) -> Iterator[ModelsNode]:
    """A node in a room of its own, for tests that end the others in it; it serves nobody."""
    with running_models_node(tmp_path_factory.mktemp("keep")) as node:
        yield node


@pytest.fixture(scope="session")
def embedder(models_node) -> str:
    """The alias of a tiny model of sentence embeddings on that node."""
    directory = models_node.node.home.parent / "embedder"
    write_tiny_embedder(directory)
    models_node.publish(directory, "embedder")
    return "embedder"


@pytest.fixture(scope="session")
def caller(models_node) -> str:
    """The alias of a tiny decoder on that node that holds much, and whose template knows tools."""
    root = models_node.node.home.parent
    write_tiny_gguf(root / "caller.gguf", seed=1, shape=TinyShape(context=8192))
    directory = root / "caller"
    models_node.node.dreamer("import", str(root / "caller.gguf"), "--output", str(directory))
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_bytes())
    path.write_text(json.dumps({**config, "chat_template": TOOL_TEMPLATE}))
    models_node.publish(directory, "caller")
    return "caller"


@pytest.fixture(scope="session")
def smollm2(models_node) -> str:
    """The alias of SmolLM2 on that node."""
    given = os.environ.get(GGUF_VARIABLE)
    if not given:
        pytest.skip(f"{GGUF_VARIABLE} names no GGUF of SmolLM2: run 'make models'")
    models_node.decoder(Path(given), "smollm2")
    return "smollm2"
