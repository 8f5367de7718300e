"""Who is let in, how much is taken, and that ports and sockets are given back."""

import asyncio
import socket
import stat

import pytest

from dreamer.daemon.grpc_api.messages import message
from dreamer.daemon.grpc_api.reading import Reading
from dreamer.protocol.errors import InputError, LocalError
from dreamer.protocol.inference_limits import GRPC_READS_MAX, GRPC_STREAMS_MAX


@pytest.mark.parametrize(
    "given", [None, "Bearer wrong", "Bearer", "Bearer ", "Basic s3cret", "s3cret", "Bearer s3cret2"]
)
async def test_tcp_without_the_token_is_refused(grpc_node, given):
    metadata = None if given is None else (("authorization", given),)
    for method in ("ServerLive", "ModelInfer"):
        code, said, _ = await grpc_node.failure(method, metadata, by_tcp=True)
        assert (code, "api-token" in said) == ("UNAUTHENTICATED", True)
    assert grpc_node.inference.asked == []


async def test_stream_without_the_token_is_refused(grpc_node):
    async with grpc_node.channel(by_tcp=True) as channel:
        stream = grpc_node.stream(channel)
        assert (await stream.code()).name == "UNAUTHENTICATED"


async def test_tcp_with_the_token_is_served_and_the_socket_needs_none(grpc_node):
    metadata = (("authorization", "Bearer s3cret"),)
    assert (await grpc_node.call("ServerLive", metadata, by_tcp=True)).live
    assert (await grpc_node.call("ServerLive")).live


async def test_socket_is_its_owners_alone(grpc_node):
    assert stat.S_IMODE(grpc_node.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(grpc_node.socket.parent.stat().st_mode) == 0o700


async def test_port_that_is_taken_is_said_so(grpc_node):
    # Another gRPC server's as well: they share ports unless told not to.
    with pytest.raises(LocalError, match="grpc_listen"):
        async with grpc_node.serving(tcp=("127.0.0.1", grpc_node.tcp[1])):
            pass


async def test_batch_of_videos_comes_back_whole(grpc_node):
    data = bytes(range(256)) * (61 * 4096)
    tensor = {"name": "x", "datatype": "UINT8", "shape": [61, 2**20]}
    sent = {"inputs": [tensor], "raw_input_contents": [data]}
    answer = await grpc_node.call("ModelInfer", model_name="echo", **sent)
    assert answer.raw_output_contents[0] == data


async def test_messages_are_received_so_many_at_a_time(grpc_node):
    async with grpc_node.channel() as channel:
        hung = [
            channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")()
            for _ in range(GRPC_READS_MAX)
        ]
        for call in hung:
            await call.wait_for_connection()
        sent = {"model_name": "echo", "raw_input_contents": [bytes(64)]}
        sent["inputs"] = [{"name": "x", "datatype": "UINT8", "shape": [64]}]
        waiting = asyncio.create_task(grpc_node.call("ModelInfer", **sent))
        # How the node is can be asked all the while; by now the other would long be answered.
        for _ in range(30):
            assert (await grpc_node.call("ServerLive")).live
        assert not waiting.done()
        hung[0].cancel()
        assert (await waiting).raw_output_contents[0] == bytes(64)
        for call in hung[1:]:
            call.cancel()


async def test_message_that_does_not_come_makes_room_for_others():
    async def nothing():
        await asyncio.Event().wait()
        yield

    async def something():
        yield "it"

    async def none():
        return
        yield

    reading = Reading(reads=1, timeout_s=0.02)
    slow = asyncio.create_task(reading.only(nothing(), tensors=True))
    # Now it has the one place.
    await asyncio.sleep(0)
    assert await reading.only(something(), tensors=True) == "it"
    with pytest.raises(InputError, match="did not come"):
        await slow
    with pytest.raises(InputError, match="no message"):
        await reading.only(none(), tensors=True)


async def test_so_many_streams_stand_and_the_next_is_told_to_come_later(grpc_node):
    async with grpc_node.channel() as channel:
        standing = [grpc_node.stream(channel) for _ in range(GRPC_STREAMS_MAX)]
        for stream in standing:
            await stream.write(message("ModelInferRequest")(model_name="nothing"))
            assert (await stream.read()).error_message
        late = grpc_node.stream(channel)
        assert (await late.code()).name == "UNAVAILABLE"
        assert "ModelInfer" in await late.details()
        await standing[0].done_writing()
        assert (await standing[0].code()).name == "OK"
        again = grpc_node.stream(channel)
        await again.done_writing()
        assert (await again.code()).name == "OK"
        for stream in standing[1:]:
            stream.cancel()


async def test_message_beyond_the_bound_is_refused_and_the_next_is_served(grpc_node):
    async with grpc_node.channel() as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        assert (await call(bytes(2**28 + 1)).code()).name == "RESOURCE_EXHAUSTED"
    assert (await grpc_node.call("ServerLive")).live


async def test_bodies_that_are_held_are_counted_and_let_go(grpc_node):
    grpc_node.oip.bodies.take(2**30)
    sent = {
        "inputs": [{"name": "x", "datatype": "INT8", "shape": [1]}],
        "raw_input_contents": [b"1"],
    }
    code, _, trailers = await grpc_node.failure("ModelInfer", model_name="echo", **sent)
    assert (code, "grpc-retry-pushback-ms" in trailers) == ("UNAVAILABLE", True)
    assert grpc_node.oip.bodies.held_bytes == 2**30


async def test_end_of_serving_cuts_off_what_never_ends_and_gives_all_back(grpc_node):
    other = grpc_node.socket.with_name("other.sock")
    first, grpc_node.socket = grpc_node.socket, other
    async with grpc_node.serving() as grpc_node.tcp, grpc_node.channel() as channel:
        stream = grpc_node.stream(channel)
        assert other.exists()
        silent = asyncio.ensure_future(stream.read())
    assert not other.exists()
    await asyncio.gather(silent, return_exceptions=True)
    assert first.exists()
    with socket.create_server(grpc_node.tcp):
        pass
