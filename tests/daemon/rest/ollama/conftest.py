"""Ollama's API over a node in memory whose models have real directories and a registry."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from in_memory.inference import MODEL_ID
from in_memory.node import MemoryNode
from in_memory.served import ServedNode

from dreamer.daemon.ports import PushReceipt
from dreamer.daemon.rest.app import make_app
from dreamer.daemon.rest.serve import serving
from dreamer.daemon.surfaces.catalogue import AliasInfo, AliasMoveInfo
from dreamer.protocol.errors import NoMatchError

ME, OTHER = "ef" * 32, "01" * 32
CONFIG = {
    "model_type": "llama",
    "name": "Tiny",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 270,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


class MemoryCatalogue:
    """Who set which alias, and what was withdrawn."""

    def __init__(self) -> None:
        self.set_by = {"prod": OTHER}
        self.withdrawn: list[tuple] = []

    async def alias(self, room, alias):
        if alias not in self.set_by:
            raise NoMatchError(f"there never was an alias {alias!r}")
        moves = (AliasMoveInfo(1.0, self.set_by[alias], "", None, MODEL_ID),)
        return AliasInfo(alias, room, MODEL_ID, (), moves)

    async def withdraw(self, room, ref):
        self.withdrawn.append((room, ref))
        return ref


class ShelfNode(MemoryNode):
    """A memory node whose ``tiny`` lies in a directory, and whose pushes keep what was in them."""

    def __init__(self, directory) -> None:
        super().__init__()
        self.catalogue = MemoryCatalogue()
        self.directory = directory
        self.pushed: list[dict[str, bytes]] = []
        self.receipt: dict = {}
        self.info = {}

    async def status(self):
        return {**await super().status(), "node_id": ME}

    def _model(self):
        (tiny, *_) = self.inference.models
        model = replace(super()._model(), path=str(self.directory), aliases=tiny.aliases)
        return replace(model, local=tiny.here, **self.info)

    async def push(self, room, request):
        self.pushed.append(
            {path.name: path.read_bytes() for path in request.path.iterdir() if path.is_file()}
        )
        async for event in super().push(room, request):
            yield replace(event, **self.receipt) if isinstance(event, PushReceipt) else event

    def name_tiny(self, *aliases, here=True, tags=()):
        """Give the model that writes other aliases."""
        models = self.inference.models
        models[0] = replace(models[0], aliases=aliases, here=here, tags=tags)


class ServedShelf(ServedNode):
    """The API over a ``ShelfNode``."""

    def __init__(self, home, directory) -> None:
        super().__init__(home)
        self.node = ShelfNode(directory)

    @asynccontextmanager
    async def _serving(self):
        app = make_app(self.node, self.token, self.home / "blobs")
        async with serving(app, self.socket, tcp=self.tcp, drain_s=0.05) as address:
            yield address

    def ask(self, path, body=None, method="POST", headers=None):
        """Return status and JSON of one request."""
        status, _, data = self.request(method, path, body, headers)
        return status, json.loads(data) if data else None

    def lines(self, path, body):
        """Return the lines of a streamed answer."""
        status, headers, data = self.request("POST", path, body)
        assert (status, headers["Content-Type"]) == (200, "application/x-ndjson"), data
        return [json.loads(line) for line in data.splitlines()]

    def asked(self):
        """Return the generation that was asked for last."""
        return [one for one in self.node.inference.asked if one[0] == "generate"][-1][2]


@pytest.fixture
def directory(tmp_path):
    """A model's directory, as far as this API reads it."""
    place = tmp_path / "tiny"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(CONFIG))
    (place / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (place / "tokenizer.json").write_text("{}")
    (place / "model.onnx").write_bytes(b"graph")
    (place / "NOTICE").write_text("CC0")
    return place


@pytest.fixture
def ollama(tmp_path, directory):
    one = ServedShelf(tmp_path / "home", directory).start()
    yield one
    one.stop()
