"""Texts through the Open Inference Protocol over HTTP: whole, in pieces, as vectors."""

import json
import struct

import pytest
from in_memory.oip import infer, one, post, tensor


def test_texts_go_on_each_from_its_own(served):
    asked = one(tensor("BYTES", [2, 1], ["a", "b"], name="text_input"))
    asked["parameters"] = {"max_tokens": 3, "temperature": 0.5, "seed": 7, "stop": "x"}
    status, _, value, _ = infer(served, asked, model="tiny")
    assert (status, value["outputs"][0]["shape"]) == (200, [2, 1])
    assert value["outputs"][0]["data"] == ["Hello wörld\x1b[31m"] * 2
    assert value["parameters"]["finish_reason"] == "stop"
    sent = [one[2] for one in served.node.inference.asked if one[0] == "generate"]
    assert {one.raw_prompt for one in sent} == {"a", "b"}
    assert (sent[0].max_tokens, sent[0].sampling.seed, sent[0].stop) == (3, 7, ("x",))


def test_texts_have_vectors(served):
    asked = one(tensor("BYTES", [2], ["a", "bcd"], name="text_input"))
    asked["outputs"] = [{"name": "embedding", "parameters": {"binary_data": True}}]
    status, _, value, rest = infer(served, asked, model="embedder")
    assert (status, value["outputs"][0]["shape"]) == (200, [2, 4])
    assert struct.unpack("<8f", rest)[::4] == (1.0, 3.0)


@pytest.mark.parametrize(
    ("inputs", "parameters", "said"),
    [
        ([tensor("BYTES", [1], ["a"], name="other")], {}, "takes no tensors"),
        ([tensor("BYTES", [1], ["a"], name="text_input"), tensor("INT8", [1], [1])], {}, "'x'"),
        ([tensor("BYTES", [1], ["a"], name="text_input")], {"temprature": 1}, "temprature"),
        ([tensor("BYTES", [1], ["a"], name="text_input")], {"top_k": 1.5}, "whole number"),
        ([tensor("BYTES", [1], ["a"], name="text_input")], {"temperature": True}, "a number"),
        ([tensor("BYTES", [1], ["a"], name="text_input")], {"max_tokens": 0}, "max_tokens"),
        ([tensor("BYTES", [0], [], name="text_input")], {}, "1 to 256 texts"),
        ([tensor("BYTES", [257], ["a"] * 257, name="text_input")], {}, "1 to 256 texts"),
    ],
)
def test_call_of_texts_that_makes_no_sense_is_refused(served, inputs, parameters, said):
    asked = {"inputs": inputs, "parameters": parameters}
    status, _, value, _ = infer(served, asked, model="tiny")
    assert (status, said in value["error"]) == (400, True), value


def test_generate_answers_at_once(served):
    status, value = post(
        served, "/v2/models/tiny/generate", {"text_input": "hi", "parameters": {"max_tokens": 3}}
    )
    assert (status, value["text_output"]) == (200, "Hello wörld\x1b[31m")
    assert (value["finish_reason"], value["completion_tokens"]) == ("stop", 3)


def test_generate_may_go_through_the_chat_template(served):
    post(served, "/v2/models/tiny/generate", {"text_input": "hi", "chat": True})
    sent = served.node.inference.asked[-1][2]
    assert (sent.raw_prompt, sent.messages[0].content) == (None, "hi")


def test_generate_stream_sends_each_piece_as_an_event(served):
    status, told, body = served.request(
        "POST", "/v2/models/tiny/generate_stream", {"text_input": "hi", "id": "5"}
    )
    events = [json.loads(line[6:]) for line in body.decode().split("\n\n") if line]
    assert (status, told["Content-Type"]) == (200, "text/event-stream")
    assert [one["text_output"] for one in events] == ["Hello ", "wörld\x1b[31m", ""]
    assert (events[-1]["finish_reason"], events[0]["id"]) == ("stop", "5")


def test_stream_that_breaks_ends_with_its_error(served):
    body = served.request("POST", "/v2/models/breaks/generate_stream", {"text_input": "hi"})[2]
    last = body.decode().strip().split("\n\n")[-1]
    assert json.loads(last[6:]) == {"error": "the peer went away; run it again"}


def test_generation_that_fails_before_it_begins_has_its_status(served):
    assert post(served, "/v2/models/busy/generate_stream", {"text_input": "hi"})[0] == 503
    assert post(served, "/v2/models/tiny/generate", {"text_input": 3})[0] == 400
    assert post(served, "/v2/models/echo/generate", {"text_input": "hi"})[0] == 200


def test_client_that_hangs_up_ends_the_generation(served):
    connection = served.connection()
    body = json.dumps({"text_input": "hi"})
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v2/models/slow/generate_stream", body, headers)
    connection.getresponse().read(10)
    assert served.node.inference.begun.wait(10)
    connection.sock.close()
    connection.close()
    assert served.node.inference.cancelled.wait(10)
