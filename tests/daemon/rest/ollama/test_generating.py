import json

import pytest
from in_memory.inference import MODEL_ID

from dreamer.daemon.inference.requests import Message
from dreamer.daemon.inference.sampling_options import Grammar
from dreamer.daemon.rest.ollama.recipe import FILE_NAME, TAG, Recipe

HI = [{"role": "user", "content": "hi"}]
DURATIONS = {
    "total_duration": 400_000_000,
    "load_duration": 20_000_000,
    "prompt_eval_count": 5,
    "prompt_eval_duration": 30_000_000,
    "eval_count": 3,
    "eval_duration": 300_000_000,
}


def test_generate_streams_a_line_for_each_piece_and_one_for_the_end(ollama):
    first, second, last = ollama.lines("/api/generate", {"model": "prod", "prompt": "hi"})
    assert (first["response"], first["done"], first["model"]) == ("Hello ", False, "prod")
    assert second["response"] == "wörld\x1b[31m"
    assert (last["response"], last["done"], last["done_reason"]) == ("", True, "stop")
    assert {name: last[name] for name in DURATIONS} == DURATIONS
    assert first["created_at"] <= last["created_at"]
    assert first["created_at"].endswith("Z")


def test_generate_in_one_has_the_whole_text(ollama):
    body = {"model": "prod:latest", "prompt": "hi", "stream": False}
    status, answer = ollama.ask("/api/generate", body)
    assert (status, answer["response"]) == (200, "Hello wörld\x1b[31m")
    assert answer["model"] == "prod:latest"
    assert {name: answer[name] for name in DURATIONS} == DURATIONS


def test_chat_streams_messages(ollama):
    first, _, last = ollama.lines("/api/chat", {"model": "prod", "messages": HI})
    assert first["message"] == {"role": "assistant", "content": "Hello "}
    assert last["message"] == {"role": "assistant", "content": ""}
    assert "context" not in last
    assert "response" not in last


def test_headers_say_who_ran_it(ollama):
    body = {"model": "prod", "messages": HI}
    _, headers, _ = ollama.request("POST", "/api/chat", body, {"X-Dreamer-Prefer": "local"})
    assert headers["X-Dreamer-Where"] == "local"
    assert headers["X-Dreamer-Node"] == "ef" * 32
    assert "first_token" in headers["Server-Timing"]
    _, headers, _ = ollama.request("POST", "/api/chat", {**body, "stream": False})
    assert headers["X-Dreamer-Where"] == "peer"
    assert "decode" in headers["Server-Timing"]


def test_prompt_and_system_are_turns_of_a_conversation(ollama):
    ollama.lines("/api/generate", {"model": "prod", "prompt": "hi", "system": "Be brief."})
    assert ollama.asked().messages == (Message("system", "Be brief."), Message("user", "hi"))


def test_raw_prompt_is_passed_as_it_is_and_gives_no_context(ollama):
    last = ollama.lines("/api/generate", {"model": "prod", "prompt": "[x]", "raw": True})[-1]
    assert ollama.asked().raw_prompt == "[x]"
    assert "context" not in last


def test_context_goes_on_with_the_conversation(ollama):
    body = {"model": "prod", "prompt": "hi", "system": "Be brief."}
    context = ollama.lines("/api/generate", body)[-1]["context"]
    ollama.lines("/api/generate", {"model": "prod", "prompt": "more", "context": context})
    assert [turn.role for turn in ollama.asked().messages] == [
        *("system", "user", "assistant", "user")
    ]
    assert ollama.asked().messages[2].content == "Hello wörld\x1b[31m"
    other = {"prompt": "more", "system": "Be long.", "context": context}
    ollama.lines("/api/generate", {"model": "prod", **other})
    assert ollama.asked().messages[0] == Message("system", "Be long.")
    assert len(ollama.asked().messages) == 4


def test_keep_alive_and_preference_go_along(ollama):
    body = {"model": "prod", "messages": HI, "keep_alive": "1h"}
    ollama.request("POST", "/api/chat", body, {"X-Dreamer-Prefer": "fastest"})
    options = ollama.node.inference.asked[-1][3]
    assert (options.keep_alive_s, options.prefer) == (3600.0, "fastest")


def test_format_constrains_the_answer(ollama):
    ollama.lines("/api/chat", {"model": "prod", "messages": HI, "format": "json"})
    assert ollama.asked().grammar == Grammar("json")
    schema = {"type": "object"}
    ollama.lines("/api/chat", {"model": "prod", "messages": HI, "format": schema})
    assert ollama.asked().grammar == Grammar("schema", json.dumps(schema))
    ollama.lines("/api/chat", {"model": "prod", "messages": HI, "format": ""})
    assert ollama.asked().grammar is None


def test_logprobs_come_with_each_piece(ollama):
    body = {"model": "prod", "messages": HI, "logprobs": True, "top_logprobs": 2}
    first, second, last = ollama.lines("/api/chat", body)
    assert first["logprobs"] == [
        {
            "token": "Hello ",
            "logprob": -0.5,
            "top_logprobs": [{"token": "t0", "logprob": -0.5}, {"token": "t1", "logprob": -1.5}],
        }
    ]
    assert len(second["logprobs"]) == 2
    assert "logprobs" not in last
    _, answer = ollama.ask("/api/chat", {**body, "stream": False, "top_logprobs": 0})
    assert [one["token"] for one in answer["logprobs"]] == ["Hello ", "wörld\x1b[31m", ""]
    assert "top_logprobs" not in answer["logprobs"][0]


def test_num_predict_ends_the_answer(ollama):
    body = {"model": "prod", "messages": HI, "options": {"num_predict": 1}}
    assert ollama.lines("/api/chat", body)[-1]["done_reason"] == "length"


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_nothing_to_answer_loads_the_model_and_0_unloads_it(ollama, path):
    status, answer = ollama.ask(path, {"model": "prod", "keep_alive": -1})
    assert (status, answer["done"], answer["done_reason"]) == (200, True, "load")
    assert ollama.node.inference.loaded == {MODEL_ID: -1.0}
    status, answer = ollama.ask(path, {"model": "prod", "keep_alive": "0"})
    assert answer["done_reason"] == "unload"
    assert ollama.node.inference.loaded == {}


def test_a_model_that_is_elsewhere_is_loaded_there_when_it_is_asked(ollama):
    ollama.node.name_tiny("prod", here=False)
    for keep_alive, reason in ((None, "load"), (0, "unload")):
        body = {"model": "prod", "keep_alive": keep_alive}
        assert ollama.ask("/api/generate", body)[1]["done_reason"] == reason
    assert ollama.node.inference.asked == []


def test_failure_before_the_first_piece_has_its_status(ollama):
    for model, status in (("missing", 404), ("several", 400), ("refused", 403), ("away", 502)):
        found, answer = ollama.ask("/api/chat", {"model": model, "messages": HI})
        assert (found, list(answer)) == (status, ["error"])
        assert isinstance(answer["error"], str)
    assert ollama.ask("/api/chat", {"model": "missing", "messages": HI})[1]["error"].startswith(
        "model 'missing' not found"
    )


def test_full_queue_says_when_to_ask_again(ollama):
    status, headers, _ = ollama.request("POST", "/api/generate", {"model": "busy", "prompt": "x"})
    assert (status, headers["Retry-After"]) == (503, "3")


def test_failure_on_the_way_is_the_last_line(ollama):
    lines = ollama.lines("/api/generate", {"model": "breaks", "prompt": "hi"})
    assert [list(line) for line in lines[1:]] == [["error"]]
    assert lines[-1]["error"] == "the peer went away; run it again"
    status, answer = ollama.ask(
        "/api/generate", {"model": "breaks", "prompt": "hi", "stream": False}
    )
    assert (status, answer) == (502, {"error": "the peer went away; run it again"})


@pytest.mark.parametrize("stream", [True, False])
def test_client_that_goes_away_ends_the_work(ollama, stream):
    body = json.dumps({"model": "slow", "prompt": "hi", "stream": stream}).encode()
    connection = ollama.connection()
    connection.request("POST", "/api/generate", body, {"Content-Type": "application/json"})
    assert ollama.node.begun.wait(10)
    connection.close()
    assert ollama.node.cancelled.wait(10)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "model is required"),
        ({"model": 5}, "field 'model' must be a string"),
        ({"model": "prod", "prompt": ["x"]}, "field 'prompt' must be a string"),
        ({"model": "prod", "prompt": "x", "stream": "no"}, "field 'stream' must be true or false"),
        ({"model": "prod", "prompt": "x", "think": "hard"}, "think must be true, false or one of"),
        ({"model": "prod", "prompt": "x", "think": 1.5}, "think must be true, false or one of"),
        ({"model": "prod", "prompt": "x", "suffix": "y"}, "do not support insert"),
        ({"model": "prod", "prompt": "x", "tools": [{}]}, "send them to /api/chat"),
        ({"model": "prod", "prompt": "x", "images": ["aGk="]}, "do not support images"),
        ({"model": "prod", "prompt": "x", "width": 512}, "make no images"),
        ({"model": "prod", "prompt": "x", "template": "{{ .Prompt }}"}, "/api/create"),
        ({"model": "prod", "prompt": "x", "raw": True, "system": "y"}, "raw mode"),
        ({"model": "prod", "prompt": "x", "context": [1, 2]}, "this context is not one"),
        ({"model": "prod", "prompt": "x", "format": "xml"}, "format must be"),
        ({"model": "prod", "prompt": "x", "keep_alive": "soon"}, "keep_alive 'soon'"),
        ({"model": "prod", "prompt": "x", "options": {"top_p": 2}}, "top_p must be"),
        ({"model": "m" * 1000, "prompt": "x"}, "at most 512 characters"),
        ({"model": "prod", "prompt": "x", "options": []}, "field 'options' must be an object"),
        ({"model": "prod", "prompt": "x", "top_logprobs": 2}, "needs logprobs"),
        ({"model": "prod", "prompt": "x", "logprobs": True, "top_logprobs": 21}, "between 0 and"),
        ({"model": "prod", "prompt": "\ud800"}, "no Unicode text"),
        ({"model": "prod", "prompt": "b" * 300_000}, "the prompt is"),
        (b"{", "not JSON"),
        (b"[1]", "expected a JSON object"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_can_not_be_done_is_refused_by_its_name(ollama, body, named):
    status, answer = ollama.ask("/api/generate", body, headers={"Content-Type": "application/json"})
    assert status == 400
    assert named in answer["error"]
    assert not [one for one in ollama.node.inference.asked if one[0] == "load"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"tools": [{"type": "function"}]}, "a tool is called ''"),
        ({"tools": [{"type": "retrieval"}]}, "type 'retrieval' are not supported"),
        ({"tools": [{"function": {"name": "f", "parameters": 5}}]}, "'parameters' must be"),
        ({"tools": [{"function": {"name": "f"}}] * 2}, "two tools are called 'f'"),
        ({"tools": [{"function": {"name": f"f{n}"}} for n in range(129)]}, "more than 128 tools"),
        ({"tools": "f"}, "field 'tools' must be a list"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "the name of each function"),
        (
            {"messages": [{"role": "user", "tool_calls": [{"function": {"name": "f"}}]}]},
            "only an assistant's",
        ),
        ({"messages": [{"role": "user", "images": ["x"]}]}, "do not support images"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "role must be one of"),
        ({"messages": [{"role": "user", "content": 5}]}, "message's 'content' must be a string"),
        ({"messages": ["hi"]}, "field 'messages' must be a list of objects"),
        ({"messages": "hi"}, "field 'messages' must be a list"),
        ({"messages": [{}] * 5000}, "more than 4096 messages"),
    ],
)
def test_wrong_messages_are_refused(ollama, body, named):
    status, answer = ollama.ask("/api/chat", {"model": "prod", **body})
    assert status == 400
    assert named in answer["error"]


def test_body_that_is_far_too_long_is_refused(ollama):
    body = b'{"model": "prod", "prompt": "' + b"x" * (17 << 20) + b'"}'
    status, answer = ollama.ask("/api/generate", body, headers={"Content-Type": "application/json"})
    assert (status, list(answer)) == (413, ["error"])


def test_empty_thinking_and_tools_are_no_wish(ollama):
    body = {"model": "prod", "messages": HI, "think": False, "tools": [], "unknown": {"a": 1}}
    assert ollama.lines("/api/chat", body)[-1]["done"] is True


def test_form_of_a_web_page_is_refused(ollama):
    status, answer = ollama.ask(
        "/api/generate", b"{}", headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert (status, answer["error"]) == (415, "send Content-Type: application/json")


RECIPE = Recipe("You are Mario.", {"temperature": 0.5, "stop": ["END"]}, (Message("user", "who?"),))


def test_recipe_of_a_model_goes_before_what_is_asked(ollama, directory):
    (directory / FILE_NAME).write_bytes(RECIPE.encode())
    ollama.lines("/api/chat", {"model": "prod", "messages": HI, "options": {"top_k": 5}})
    asked = ollama.asked()
    assert asked.messages == (
        Message("system", "You are Mario."), Message("user", "who?"), Message("user", "hi"),
    )  # fmt: skip
    assert (asked.sampling.temperature, asked.sampling.top_k, asked.stop) == (0.5, 5, ("END",))


def test_request_overrides_the_recipe(ollama, directory):
    (directory / FILE_NAME).write_bytes(RECIPE.encode())
    body = {"model": "prod", "prompt": "hi", "system": "Luigi.", "options": {"temperature": 1}}
    ollama.lines("/api/generate", body)
    asked = ollama.asked()
    assert [turn.content for turn in asked.messages] == ["Luigi.", "who?", "hi"]
    assert asked.sampling.temperature == 1.0


def test_recipe_that_is_elsewhere_is_not_left_out_in_silence(ollama):
    ollama.node.name_tiny("prod", here=False, tags=(TAG,))
    status, answer = ollama.ask("/api/chat", {"model": "prod", "messages": HI})
    assert status == 400
    assert "pull it first" in answer["error"]


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b'{"system": 5}', b'{"messages": [{"role": "user"}]}', b'{"messages": [5]}',
     b'{"parameters": []}', b'{"messages": [{"role": 1, "content": 2}]}', b"x" * 300_000],
)  # fmt: skip
def test_recipe_that_is_none_is_an_error_and_no_silence(ollama, directory, data):
    (directory / FILE_NAME).write_bytes(data)
    status, answer = ollama.ask("/api/chat", {"model": "prod", "messages": HI})
    assert status == 400
    assert FILE_NAME in answer["error"]
