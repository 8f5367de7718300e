"""Inferences on the socket without the web framework: the same answers, and who goes on if not."""

from __future__ import annotations

import asyncio
import json
import struct
import threading

import pytest
from in_memory.oip import infer, one, tensor
from in_memory.straight import (
    WAIT_S,
    Client,
    Waiting,
    by_framework,
    head,
    on,
    request,
    until,
)

from dreamer.daemon.rest.oip import straight
from dreamer.protocol.inference_limits import OIP_BODIES_MAX_BYTES, OIP_STRAIGHT_BUFFER_BYTES

# Answers


def test_inference_takes_no_framework(client) -> None:
    client.send(request(1.0, 2.0))
    status, headers, body = client.answer()
    assert (status, by_framework(headers)) == (200, False)
    assert body.endswith(struct.pack("<2f", 1.0, 2.0))
    assert headers["X-Dreamer-Where"] == "peer"
    assert headers["Server-Timing"].startswith("queue;dur=10.000, ")
    assert "Date" in headers


def test_answers_are_the_same_as_the_frameworks(served_by_tcp) -> None:
    asked = one(tensor("FP32", [1, 2], [0.5, float("nan")])) | {"id": "7"}
    token = {"Authorization": "Bearer s3cret"}
    for model in ("echo", "tiny", "missing", "busy", "away"):
        ours = infer(served_by_tcp, asked, model=model)
        theirs = infer(served_by_tcp, asked, model=model, headers=token, by_tcp=True)
        assert (ours[0], ours[3]) == (theirs[0], theirs[3])
        assert str(ours[2]) == str(theirs[2])
        said = [{**one[1]} for one in (ours, theirs)]
        assert (by_framework(said[0]), by_framework(said[1])) == (False, True)
        for headers in said:
            headers.pop("Date")
            headers.pop("Server", None)
        assert said[0] == said[1]


def test_requests_that_come_together_are_answered_in_their_order(client) -> None:
    client.send(b"".join(request(float(number)) for number in range(200)))
    assert [client.values() for _ in range(200)] == [(float(number),) for number in range(200)]


@pytest.mark.parametrize("cut", [1, 16, 100, 300, -1])
def test_request_that_comes_in_two_pieces_is_answered(client, cut: int) -> None:
    whole = request(3.0, 4.0)
    client.send(whole[:cut])
    # Whatever has come of it by now; the next test has each byte come by itself.
    client.send(whole[cut:])
    assert client.values() == (3.0, 4.0)


def test_request_that_comes_byte_by_byte_is_answered(client) -> None:
    for byte in request(5.0):
        client.send(bytes([byte]))
    assert client.values() == (5.0,)


def test_large_tensors_and_small_ones_follow_each_other(client) -> None:
    for size in (1, 60_000, 2, 100_000, 3):
        client.send(request(*([1.5] * size)))
        assert client.values() == (1.5,) * size


@pytest.mark.parametrize("size", [1, 10_000, 60_000])
def test_request_behind_a_large_one_that_takes_long_is_answered(client, served, size) -> None:
    waiting = Waiting(served)
    client.send(request(*([1.5] * size)))
    assert waiting.begun.wait(WAIT_S)
    client.send(request(2.0))
    on(served, lambda: None)
    waiting.go()
    assert client.values() == (1.5,) * size
    assert client.values() == (2.0,)


def test_more_requests_than_a_buffer_holds_wait_for_the_first(client, served) -> None:
    waiting, one_more = Waiting(served), request(2.0)
    many = 2 * OIP_STRAIGHT_BUFFER_BYTES // len(one_more)
    # All of them are there before the first is even read.
    on(served, lambda: client.send(one_more * many))
    assert waiting.begun.wait(WAIT_S)
    waiting.go()
    assert [client.values() for _ in range(many)] == [(2.0,)] * many


@pytest.mark.parametrize(
    ("body", "words"), [(b"{", "not JSON"), (b"[]", "must be a JSON object"), (b"{}", "inputs")]
)
def test_body_that_is_wrong_is_refused_and_the_next_answered(client, body, words) -> None:
    client.send(head(Content_Length=str(len(body))) + body + request(1.0))
    status, headers, told = client.answer()
    assert (status, by_framework(headers), words in json.loads(told)["error"]) == (400, False, True)
    assert client.values() == (1.0,)


def test_bug_is_told_and_logged(client, served, caplog) -> None:
    async def broken(*_: object) -> None:
        raise KeyError("ours")

    served.node.inference.infer = broken
    client.send(request(1.0))
    status, _, body = client.answer()
    assert (status, "see its log" in json.loads(body)["error"]) == (500, True)
    assert "failed by a bug of ours" in caplog.text


@pytest.mark.parametrize("error", [BrokenPipeError("a pipe of ours"), ConnectionError()])
def test_connection_lost_inside_is_no_client_that_is_gone(client, served, caplog, error) -> None:
    async def broken(*_: object) -> None:
        raise error

    served.node.inference.infer = broken
    client.send(request(1.0))
    assert client.answer()[0] == 500
    assert "failed by a bug of ours" in caplog.text


def test_client_whose_request_is_cancelled_inside_is_not_left_waiting(client, served) -> None:
    async def cancelled(*_: object) -> None:
        raise asyncio.CancelledError

    served.node.inference.infer = cancelled
    client.send(request(1.0))
    assert client.ended()


# Memory


def held_bytes(connections) -> int:
    return connections[0]._server.oip.bodies.held_bytes


def test_body_that_is_only_announced_is_counted_until_its_client_is_gone(
    served, connections
) -> None:
    client = Client(served)
    client.send(head(Content_Length="500000"))
    until(served, lambda: any(connections) and held_bytes(connections) >= 500_000)
    client.end.close()
    until(served, lambda: held_bytes(connections) == 0)


def test_body_that_has_no_room_is_refused_by_the_framework(served, connections) -> None:
    client = Client(served)
    client.send(request(1.0))
    client.values()
    bodies = connections[0]._server.oip.bodies
    on(served, lambda: bodies.take(OIP_BODIES_MAX_BYTES))
    client.send(request(*([1.0] * 50_000)))
    status, headers, _ = client.answer()
    assert (status, by_framework(headers), len(connections[0]._buffer)) == (
        503,
        True,
        OIP_STRAIGHT_BUFFER_BYTES,
    )
    client.end.close()


@pytest.mark.parametrize("size", [50_000, 240_000])
def test_idle_client_keeps_no_large_buffer(served, connections, monkeypatch, size) -> None:
    monkeypatch.setattr(straight, "OIP_BODY_STALL_S", 0.02)
    client = Client(served)
    client.send(request(*([1.0] * size)))
    client.values()
    until(served, lambda: len(connections[0]._buffer) == OIP_STRAIGHT_BUFFER_BYTES)
    assert held_bytes(connections) == 0
    client.send(request(2.0))
    assert client.values() == (2.0,)
    client.end.close()


@pytest.mark.parametrize("how", ["gone", "handed over"])
def test_connection_that_is_over_is_looked_at_no_more(served, connections, how) -> None:
    client = Client(served)
    client.send(request(1.0))
    client.values()
    if how == "gone":
        client.end.close()
    else:
        client.send(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    until(served, lambda: connections[0]._look_timer.cancelled())
    client.end.close()


# The framework goes on


def test_what_is_no_inference_is_the_frameworks_from_there_on(client) -> None:
    client.send(request(1.0))
    assert not by_framework(client.answer()[1])
    client.send(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    status, headers, body = client.answer()
    assert (status, by_framework(headers), json.loads(body)) == (200, True, {"live": True})
    client.send(request(2.0))
    assert client.values() == (2.0,)


def test_request_behind_an_inference_waits_for_it(client) -> None:
    client.send(request(1.0) + b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert client.values() == (1.0,)
    assert json.loads(client.answer()[2]) == {"live": True}


@pytest.mark.parametrize("more", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}])
def test_page_is_kept_out_on_a_connection_that_was_let_in(client, more) -> None:
    client.send(request(1.0))
    client.values()
    client.send(request(1.0, **more))
    assert client.answer()[0] == 403


def test_garbage_is_refused_by_the_framework(client) -> None:
    client.send(b"\x16\x03\x01 what is this\r\n\r\n")
    assert client.answer()[0] == 400


def test_head_without_an_end_is_refused_by_the_framework(client) -> None:
    client.send(b"POST /v2/models/echo/infer HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n")
    assert client.answer()[0] == 400


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_head_with_bare_newlines_is_answered_at_once(client, ends) -> None:
    client.send(head().removesuffix(b"\r\n").replace(b"\r\n", b"\n") + ends + b"{}   ")
    assert client.answer()[0] == 400


def test_body_that_is_large_is_the_frameworks(client) -> None:
    client.send(request(*([1.0] * 300_000)))
    status, headers, body = client.answer()
    assert (status, by_framework(headers), len(body) > 1_200_000) == (200, True, True)


def test_half_a_request_is_handed_over_after_a_while(served, monkeypatch) -> None:
    monkeypatch.setattr(straight, "OIP_BODY_STALL_S", 0.05)
    handed, hand_over = threading.Event(), straight.StraightConnection._hand_over

    def hand_over_and_say(connection: straight.StraightConnection) -> None:
        hand_over(connection)
        handed.set()

    monkeypatch.setattr(straight.StraightConnection, "_hand_over", hand_over_and_say)
    client, whole = Client(served), request(1.0)
    client.send(whole[:-1])
    assert handed.wait(WAIT_S)
    client.send(whole[-1:])
    status, headers, _ = client.answer()
    assert (status, by_framework(headers)) == (200, True)
    client.end.close()
