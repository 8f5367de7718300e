"""Clients of PyPI's ``ollama`` for real nodes of one room.

``models_node`` has the tiny decoder ``talker``; ``puller`` is another member, which has nothing of
its own; ``asker`` a third, whose apps may use what the others serve.
"""

from __future__ import annotations

import httpx
import ollama
import pytest

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import Node


def client_by_socket(node, kind=ollama.Client, transport=httpx.HTTPTransport):
    path = str(node.home / "run" / "dreamerd.sock")
    return kind("http://dreamerd", transport=transport(uds=path))


@pytest.fixture(scope="session")
def by_socket():
    """``by_socket(node)`` is a client at a node's Unix socket, which needs no token."""
    return client_by_socket


@pytest.fixture(scope="module", params=["tcp", "unix"])
def client(request, models_node):
    """The client with the token in a header, and with none at the socket."""
    if request.param == "unix":
        one = client_by_socket(models_node.node)
    else:
        headers = {"Authorization": f"Bearer {models_node.token}"}
        one = ollama.Client(models_node.url, headers=headers)
    with one:
        yield one


@pytest.fixture(scope="module")
def socket_client(models_node):
    with client_by_socket(models_node.node) as one:
        yield one


def _member(keeper, name, env):
    with Node(keeper.home.parent / name, env=env) as node:
        Dreamer(node.home).join_room(Dreamer(keeper.home).invite("lab", ()))
        with client_by_socket(node) as one:
            yield one


@pytest.fixture(scope="module")
def puller(models_node):
    """A client of a second member of the room, which serves others what it has."""
    yield from _member(models_node.node, "puller", {"DREAMER_INFERENCE_SERVE_PEERS": "true"})


@pytest.fixture(scope="module")
def asker(models_node):
    """A client of a third member, which has no model and lets its apps use those of others."""
    yield from _member(models_node.node, "asker", {"DREAMER_OFFLOAD_ASK": "auto"})
