"""What is wrong with a request is said as OpenAI's clients expect it."""

import json

import pytest

CHAT = "/chat/completions"
HI = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("model", "status", "type_", "code", "param"),
    [
        ("missing", 404, "invalid_request_error", "model_not_found", "model"),
        ("several", 400, "invalid_request_error", "ambiguous", None),
        ("refused", 403, "permission_error", "forbidden", None),
        ("away", 502, "server_error", "remote", None),
        ("full", 503, "server_error", "local", None),
        ("busy", 503, "server_error", "busy", None),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_failure_before_the_first_piece_has_its_status(openai, model, status, type_, code, param,
                                                       stream):  # fmt: skip
    for n in (1, 2):
        body = {"model": model, "messages": HI, "stream": stream, "n": n}
        found, value = openai.json(CHAT, body)
        assert found == status
        message = str(openai.served.node.FAILURES[model])
        assert value == {"error": {"message": message, "type": type_, "param": param, "code": code}}


def test_full_queue_says_when_to_ask_again(openai):
    status, headers, _ = openai.request(CHAT, {"model": "busy", "messages": HI})
    assert (status, headers["Retry-After"]) == (503, "3")


@pytest.mark.parametrize(
    ("fields", "param", "named"),
    [
        ({"messages": []}, "messages", "length >= 1"),
        ({"messages": "hi"}, "messages", "array"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "int"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing"),
        ({"messages": [{"content": "a"}]}, "messages[0]", "role"),
        ({"messages": [*HI, {"role": "function", "content": "a"}]}, "messages[1].role",
         "'function'"),
        ({"messages": [*HI, {"role": "tool", "content": "a"}]}, "messages[1].tool_call_id",
         "which call"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
         "messages[0].tool_calls[0]", "function"),
        ({"messages": [{"role": "user", "content": "a", "tool_calls": [
            {"id": "a", "function": {"name": "f", "arguments": "{}"}}]}]},
         "messages[0].tool_calls", "only an assistant"),
        ({"messages": [{"role": "user", "content": [
            {"type": "text", "text": "what is it?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}]}]},
         "messages[0].content[1]", "'image_url'"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]},
         "messages[0].content[0]", "'text'"),
        ({"model": 5}, "model", "str"),
        ({"n": 0}, "n", ">= 1"),
        ({"n": 129}, "n", "<= 128"),
        ({"temperature": "hot"}, "temperature", "float"),
        ({"temperature": -1}, "temperature", "temperature must be 0 to 100"),
        ({"top_p": 1.5}, "top_p", "top_p must be 0 to 1"),
        ({"repeat_last_n": -7}, "repeat_last_n", "repeat_last_n must be"),
        ({"presence_penalty": 3}, "presence_penalty", "presence_penalty must be"),
        ({"max_tokens": 0}, "max_tokens", ">= 1"),
        ({"logit_bias": {"the": 1}}, "logit_bias", "'the'"),
        ({"logit_bias": {"5": 101}}, "logit_bias[...]", "<= 100"),
        ({"top_logprobs": 3}, "top_logprobs", "logprobs: true"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "<= 20"),
        ({"stop": ["a"] * 17}, "stop", "length <= 16"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type", "'custom'"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "no function"),
        ({"tools": [{"function": {"name": "f", "parameters": "{}"}}]},
         "tools[0].function.parameters", "schema"),
        ({"tools": [{"function": {"name": "get weather"}}]}, "tools", "'get weather'"),
        ({"tools": [{"function": {"name": "f"}}] * 2}, "tools", "two tools"),
        ({"tools": [{"function": {"name": f"f{n}"}} for n in range(129)]}, "tools",
         "length <= 128"),
        ({"tools": [{"function": {"name": "f", "description": "x" * 2**17}}]}, "tools",
         "the tools are"),
        ({"tools": [{"function": {"name": "f"}}], "tool_choice": "maybe"}, "tool_choice", "maybe"),
        ({"tools": [{"function": {"name": "f"}}],
          "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice", "'g'"),
        ({"tool_choice": "required"}, "tool_choice", "needs tools"),
        ({"functions": [{"name": "f"}]}, "functions", "send tools instead"),
        ({"audio": {"voice": "ash"}}, "audio", "audio"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "xml"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema",
         "schema"),
        ({"stream_options": True}, "stream_options", "object"),
    ],
)  # fmt: skip
def test_bad_field_is_named(openai, fields, param, named):
    error = openai.refused(CHAT, **fields)
    assert error["param"] == param
    assert named in error["message"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "bad_input")


@pytest.mark.parametrize(
    "body",
    [b"{", b"[1]", b"\xff", b"", b'{"a": ' + b"[" * 100_000, b'{"model": "\\ud800", "n": 1}'],
    ids=["cut", "list", "utf8", "empty", "deep", "surrogate"],
)
def test_body_that_is_no_request_is_refused(openai, body):
    status, value = openai.json(CHAT, body, {"Content-Type": "application/json"})
    assert (status, value["error"]["code"]) == (400, "bad_input")


def test_body_of_too_many_values_is_refused_before_it_is_read(openai):
    body = b'{"model": "prod", "prompt": [' + b"[]," * 600_000 + b"[]]}"
    status, value = openai.json("/completions", body, {"Content-Type": "application/json"})
    assert status == 400
    assert "500000 values" in value["error"]["message"]


def test_body_over_the_bound_is_refused(openai):
    body = json.dumps({"model": "prod", "input": "x" * 2**24}).encode()
    status, value = openai.json("/embeddings", body, {"Content-Type": "application/json"})
    assert (status, value["error"]["type"]) == (413, "invalid_request_error")


def test_body_that_would_be_over_the_bound_is_refused_before_it_comes(openai):
    connection = openai.served.connection()
    connection.putrequest("POST", "/v1/embeddings")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(2**24 + 1))
    connection.endheaders()
    with connection.getresponse() as answer:
        assert answer.status == 413
    connection.close()


def test_body_over_the_bound_in_pieces_is_refused_too(openai):
    connection = openai.served.connection()
    pieces = (b"x" * 2**20 for _ in range(17))
    connection.request(
        "POST", "/v1/embeddings", pieces, {"Content-Type": "application/json"}, encode_chunked=True
    )
    with connection.getresponse() as answer:
        assert answer.status == 413
    connection.close()


def test_tools_that_must_not_be_used_are_no_hindrance(openai):
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert openai.chat(tools=tools, tool_choice="none")["choices"]
    assert openai.chat(tools=[])["choices"]


def test_fields_that_mean_nothing_here_are_left_unread(openai):
    assert openai.chat(user="me", metadata={"a": "b"}, store=False, service_tier="auto",
                       reasoning_effort="low", parallel_tool_calls=True, whatever=[1])  # fmt: skip


def test_model_that_writes_nothing_is_refused(openai):
    status, value = openai.json(CHAT, {"model": "embedder", "messages": HI})
    assert status == 400
    assert "writes no text" in value["error"]["message"]


def test_unknown_path_and_method_are_told_in_the_form_of_openai(openai):
    status, value = openai.json("/nothing", {})
    assert (status, value["error"]["type"]) == (404, "invalid_request_error")
    status, headers, _ = openai.request(CHAT, None, method="GET")
    assert (status, headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_write_that_a_form_could_send_is_refused(openai, kind):
    body = json.dumps({"model": "prod", "messages": HI}).encode()
    status, value = openai.json(CHAT, body, {"Content-Type": kind})
    assert (status, value["error"]["type"]) == (415, "invalid_request_error")
    assert openai.inference.asked == []


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example", "Host": "localhost"}]
)
@pytest.mark.parametrize("path", ["/models", "/chat/completions", "/embeddings", "/completions"])
def test_page_of_another_site_is_refused_everywhere(openai, path, headers):
    method = "GET" if path == "/models" else "POST"
    status, value = openai.json(path, None if method == "GET" else {}, headers, method)
    assert (status, value["error"]["type"]) == (403, "permission_error")


def test_key_is_the_token_of_tcp(served_by_tcp):
    ask = lambda headers: served_by_tcp.request("GET", "/v1/models", None, headers, by_tcp=True)  # noqa: E731
    assert ask({"Authorization": "Bearer s3cret"})[0] == 200
    for wrong in ({}, {"Authorization": "Bearer sk-other"}):
        status, _, data = ask(wrong)
        error = json.loads(data)["error"]
        assert (status, error["type"], error["code"]) == (
            401,
            "authentication_error",
            "invalid_api_key",
        )
