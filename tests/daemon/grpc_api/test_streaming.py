"""Streams of inferences: in order, in pieces, on after an error, ended by whoever hangs up."""

import asyncio

from dreamer.daemon.grpc_api.messages import message

FINAL, EMPTY_FINAL = "triton_final_response", "triton_enable_empty_final_response"


def request(model, number=0, **parameters):
    value = message("ModelInferRequest")(model_name=model, id=str(number))
    value.inputs.add(name="x", datatype="INT8", shape=[1])
    value.raw_input_contents.append(bytes([number % 100]))
    for name, given in parameters.items():
        value.parameters[name].bool_param = given
    return value


def text_request(model, **parameters):
    value = message("ModelInferRequest")(model_name=model)
    given = value.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    given.contents.bytes_contents.append(b"hi")
    for name, wanted in parameters.items():
        value.parameters[name].bool_param = wanted
    return value


async def answers(grpc_node, *requests):
    async with grpc_node.channel() as channel:
        stream = grpc_node.stream(channel)
        for one in requests:
            await stream.write(one)
        await stream.done_writing()
        return [one async for one in stream]


def text(response):
    return response.infer_response.raw_output_contents[0][4:].decode()


def is_final(response):
    return response.infer_response.parameters[FINAL].bool_param


async def test_answers_come_in_the_order_of_the_requests(grpc_node):
    told = await answers(grpc_node, *(request("echo", number) for number in range(50)))
    assert [one.infer_response.id for one in told] == [str(number) for number in range(50)]
    assert [one.infer_response.raw_output_contents[0][0] for one in told] == list(range(50))
    assert all(is_final(one) for one in told)


async def test_error_is_an_answer_and_the_stream_goes_on(grpc_node):
    told = await answers(grpc_node, request("missing", 1), request("echo", 2))
    assert ("missing" in told[0].error_message, told[0].infer_response.id) == (True, "1")
    assert (told[1].error_message, told[1].infer_response.id) == ("", "2")


async def test_text_comes_in_pieces_only_if_asked_for(grpc_node):
    told = await answers(grpc_node, text_request("tiny", stream=True))
    assert [text(one) for one in told] == ["Hello ", "wörld\x1b[31m", ""]
    assert [is_final(one) for one in told] == [False, False, True]
    assert told[-1].infer_response.parameters["finish_reason"].string_param == "stop"
    (whole,) = await answers(grpc_node, text_request("tiny"))
    assert (text(whole), is_final(whole)) == ("Hello wörld\x1b[31m", True)


async def test_empty_final_response_follows_if_asked_for(grpc_node):
    told = await answers(grpc_node, request("echo", 1, **{EMPTY_FINAL: True}))
    assert [is_final(one) for one in told] == [False, True]
    assert not told[1].infer_response.outputs


async def test_text_that_breaks_off_ends_with_its_error(grpc_node):
    told = await answers(grpc_node, text_request("breaks", stream=True), request("echo", 2))
    assert [one.error_message for one in told] == ["", "the peer went away; run it again", ""]


async def test_client_that_hangs_up_ends_the_work(grpc_node):
    async with grpc_node.channel() as channel:
        stream = grpc_node.stream(channel)
        await stream.write(text_request("slow", stream=True))
        assert text(await stream.read()) == "Hello "
        stream.cancel()
    async with asyncio.timeout(10):
        await asyncio.to_thread(grpc_node.inference.cancelled.wait, 10)
    assert grpc_node.inference.cancelled.is_set()


async def test_request_that_is_no_message_is_answered_in_its_place(grpc_node):
    async with grpc_node.channel() as channel:
        stream = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            response_deserializer=message("ModelStreamInferResponse").FromString,
        )(timeout=20)
        for sent in (b"\xff", request("echo", 2).SerializeToString()):
            await stream.write(sent)
        await stream.done_writing()
        told = [one async for one in stream]
    assert ("no message" in told[0].error_message, told[1].infer_response.id) == (True, "2")


def under_way():
    names = (task.get_coro().__qualname__ for task in asyncio.all_tasks())
    return [name for name in names if name in ("_begin", "_collect")]


async def test_client_that_floods_and_hangs_up_leaves_nothing_behind(grpc_node):
    async with grpc_node.channel() as channel:
        stream = grpc_node.stream(channel)
        for _ in range(20):
            await stream.write(text_request("slow", stream=True))
        await stream.read()
        assert under_way()
        stream.cancel()
    async with asyncio.timeout(10):
        while under_way():
            await asyncio.sleep(0)
    assert grpc_node.oip.bodies.held_bytes == 0


async def test_stream_of_a_wrong_wish_is_refused(grpc_node):
    async with grpc_node.channel() as channel:
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(
            metadata=(("x-dreamer-prefer", "moon"),)
        )
        assert (await stream.code()).name == "INVALID_ARGUMENT"
