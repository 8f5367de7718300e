"""How connections that are served without the web framework end."""

from __future__ import annotations

import json
import threading
import time
from contextlib import asynccontextmanager

import pytest
from in_memory.oip import one, tensor
from in_memory.served import ServedNode
from in_memory.straight import WAIT_S, Client, Waiting, head, on, request, until

from dreamer.daemon.rest.app import make_app
from dreamer.daemon.rest.local_socket import connect
from dreamer.daemon.rest.oip import straight
from dreamer.daemon.rest.serve import serving
from dreamer.protocol.limits import REST_BACKLOG_CONNECTIONS


def test_client_that_says_nothing_for_long_is_left(served, monkeypatch) -> None:
    monkeypatch.setattr(straight, "OIP_BODY_STALL_S", 0.02)
    monkeypatch.setattr(straight, "OIP_STRAIGHT_IDLE_S", 0.05)
    client = Client(served)
    client.send(request(1.0))
    assert client.values() == (1.0,)
    assert client.ended()
    client.end.close()


def test_client_that_has_said_nothing_yet_is_left_no_earlier(
    served, connections, monkeypatch
) -> None:
    monkeypatch.setattr(straight, "OIP_BODY_STALL_S", 0.01)
    # The loop's clock began long before the client came.
    monkeypatch.setattr(straight, "OIP_STRAIGHT_IDLE_S", time.monotonic() / 2)
    looks, look = [], straight.StraightConnection._look
    monkeypatch.setattr(
        straight.StraightConnection, "_look", lambda one: (look(one), looks.append(one))
    )
    client = Client(served)
    until(served, lambda: looks)
    client.send(request(1.0))
    assert client.values() == (1.0,)
    client.end.close()


def text(model: str) -> bytes:
    body = json.dumps(one(tensor("BYTES", [1], ["Hi"], name="text_input"))).encode()
    return head(f"/v2/models/{model}/infer", Content_Length=str(len(body))) + body


def test_client_that_hangs_up_ends_what_it_asked(client, served) -> None:
    client.send(text("silent"))
    assert served.node.inference.begun.wait(WAIT_S)
    client.end.close()
    assert served.node.inference.cancelled.wait(WAIT_S)


def test_client_that_hangs_up_in_a_large_request_ends_it_quietly(client, served, caplog) -> None:
    waiting = Waiting(served)
    client.send(request(*([1.0] * 10_000)))
    assert waiting.begun.wait(WAIT_S)
    client.end.close()
    assert waiting.ended.wait(WAIT_S)
    assert caplog.text == ""


def test_client_that_reads_nothing_is_cut_off(served, monkeypatch, caplog) -> None:
    monkeypatch.setattr(straight, "REST_STALLED_CLIENT_TIMEOUT_S", 0.05)
    stalled, until_drained = [], straight.StraightConnection._until_drained

    async def until_drained_and_note(connection: straight.StraightConnection) -> None:
        try:
            await until_drained(connection)
        except ConnectionError as error:
            stalled.append(str(error))
            raise

    monkeypatch.setattr(straight.StraightConnection, "_until_drained", until_drained_and_note)
    client, whole = Client(served), request(*([1.0] * 200_000))
    with pytest.raises(OSError, match=r"pipe|reset"):
        client.send(whole * 100)
    assert (stalled, caplog.text) == (["the client reads nothing"], "")
    client.end.close()


class Patient(ServedNode):
    """A node that takes its time to stop."""

    @asynccontextmanager
    async def _serving(self):
        async with serving(make_app(self.node, None), self.socket, drain_s=WAIT_S) as address:
            yield address


def test_stopping_gives_a_slow_client_the_end_of_its_answer(
    tmp_path, connections, monkeypatch
) -> None:
    # The system's buffer stays small, as where a host allows no larger one.
    monkeypatch.setattr(straight, "widen", lambda _: None)
    served = Patient(tmp_path / "home").start()
    client, values = Client(served), [1.0] * 60_000
    client.send(request(*values))
    until(served, lambda: connections)
    (connection,) = connections
    # Given as far as we are concerned, and still under way.
    until(served, lambda: connection._count == 1 and connection._task is None)
    assert on(served, lambda: connection._transport.get_write_buffer_size())
    stopping = threading.Thread(target=served.stop)
    stopping.start()
    until(served, lambda: connection._transport.is_closing())
    assert client.values() == tuple(values)
    assert client.ended()
    stopping.join()
    client.end.close()


def test_as_many_clients_may_come_at_once_as_the_framework_takes(served) -> None:
    held, go, ends = threading.Event(), threading.Event(), []
    served._loop.call_soon_threadsafe(lambda: (held.set(), go.wait(WAIT_S)))
    assert held.wait(WAIT_S)
    try:
        ends += [connect(served.socket, WAIT_S / 100) for _ in range(REST_BACKLOG_CONNECTIONS)]
    finally:
        go.set()
        for end in ends:
            end.close()


def test_stopping_ends_idle_clients_and_what_takes_too_long(tmp_path) -> None:
    served = ServedNode(tmp_path / "home").start()
    idle, busy = Client(served), Client(served)
    idle.send(request(1.0))
    idle.values()
    busy.send(text("silent"))
    assert served.node.inference.begun.wait(WAIT_S)
    served.stop()
    assert served.node.inference.cancelled.is_set()
    assert idle.ended()
    with pytest.raises((ConnectionError, AssertionError)):
        busy.answer()
    for client in (idle, busy):
        client.end.close()
