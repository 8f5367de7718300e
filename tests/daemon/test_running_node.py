"""A whole node in this process: the order in which it ends."""

from __future__ import annotations

from dreamer.daemon.app import running_node
from dreamer.daemon.config import Config
from dreamer.daemon.places import find_places
from dreamer.daemon.settings.network import NetworkSection
from dreamer.daemon.state import State


async def test_counts_can_be_recorded_until_the_last_transport_process_has_ended(
    tmp_path, monkeypatch
):
    ended: list[bool] = []
    close = State.close

    def closing(state: State) -> None:
        ended.append(not transport.ready.is_set())
        close(state)

    monkeypatch.setattr(State, "close", closing)
    config = Config(network=NetworkSection(direct_listen=""))
    async with running_node(config, find_places(tmp_path, ""), with_tracker=False) as node:
        transport = node.transport
        assert transport.ready.is_set()
    assert ended == [True]
