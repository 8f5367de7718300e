"""Clients of the socket, and the connections that they make."""

from __future__ import annotations

import pytest
from in_memory.straight import Client

from dreamer.daemon.rest.oip import straight


@pytest.fixture
def client(served):
    made = Client(served)
    yield made
    made.end.close()


@pytest.fixture
def connections(monkeypatch):
    """Every connection that is made meanwhile."""
    made, begin = [], straight.StraightConnection.connection_made

    def begin_and_note(connection, transport) -> None:
        made.append(connection)
        begin(connection, transport)

    monkeypatch.setattr(straight.StraightConnection, "connection_made", begin_and_note)
    return made
