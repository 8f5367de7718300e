"""Each API tells of errors as its own clients read them, whoever raised them."""

import http.client
import json

import pytest

from dreamer.daemon.rest.dialects import error_body
from dreamer.daemon.rest.guard import ANY_TYPE, takes
from dreamer.daemon.surfaces.inference import RunStarted, RunText
from dreamer.protocol.errors import AmbiguousError, BusyError, InputError

PATHS = ["/dreamer/v1/nothing", "/v1/nothing", "/api/nothing", "/v2/nothing", "/nothing"]


def message_of(path, value):
    error = value["error"]
    return error if path.startswith(("/api", "/v2")) else error["message"]


@pytest.mark.parametrize("path", PATHS)
def test_path_that_nobody_serves_is_a_404_in_the_form_of_its_api(served, path):
    status, headers, data = served.request("GET", path)
    assert (status, headers["Content-Type"]) == (404, "application/json; charset=utf-8")
    assert path in message_of(path, json.loads(data))


def test_wrong_method_is_told_before_a_wrong_type(served):
    status, headers, _ = served.request("POST", "/v1/models", b"", {"Content-Type": "text/plain"})
    assert (status, headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_guards_stand_before_every_api(served, path, headers):
    status, answered, data = served.request("POST", path, {}, headers)
    assert status == 403
    assert "evil.example" in message_of(path, json.loads(data))
    assert not [name for name in answered if name.lower().startswith("access-control")]


@pytest.mark.parametrize("path", PATHS)
def test_tcp_needs_the_token_at_every_api(served_by_tcp, path):
    status, _, data = served_by_tcp.request("POST", path, {}, by_tcp=True)
    assert status == 401
    assert "api-token" in message_of(path, json.loads(data))


def test_error_has_the_fields_of_its_dialect():
    error = InputError("no")
    assert error_body(error, "/api/chat") == {"error": "no"}
    assert error_body(error, "/v2/models") == {"error": "no"}
    assert error_body(error, "/dreamer/v1/run") == {"error": {"code": "bad_input", "message": "no"}}
    assert error_body(error, "/v1/chat/completions") == {
        "error": {
            "message": "no", "type": "invalid_request_error", "param": None, "code": "bad_input",
        }
    }  # fmt: skip


@pytest.mark.parametrize("ref", ["busy", "several"])
def test_our_own_api_keeps_its_statuses(served, ref):
    status, headers, _ = served.call("POST", "/pull", {"ref": ref})
    error = served.node.FAILURES[ref]
    assert status == {BusyError: 503, AmbiguousError: 409}[type(error)]
    assert headers["Retry-After"] == ("3" if ref == "busy" else None)


def test_handler_declares_what_it_takes():
    @takes("application/json", "application/octet-stream")
    async def handler(request):
        """Take either."""

    assert handler.content_types == ("application/json", "application/octet-stream")
    assert takes(ANY_TYPE)(handler).content_types == ("*/*",)


@pytest.mark.parametrize("path", ["/v1/models", "/dreamer/v1/status"])
def test_bug_of_ours_is_said_in_the_form_of_its_api_and_logged(served, path, caplog):
    async def broken():
        raise ZeroDivisionError("the secret of this error")

    served.node.inference.servables = served.node.status = broken
    status, _, data = served.request("GET", path)
    assert status == 500
    assert "see its log" in message_of(path, json.loads(data))
    assert "secret" not in data.decode()
    assert "the secret of this error" in caplog.text
    assert served.request("GET", "/health")[0] == 200


def test_bug_amid_a_stream_cuts_it(served):
    async def broken(model, request, options):
        yield RunStarted("local", "ef" * 32, "me", "ab" * 32, 5)
        yield RunText("a", 1)
        raise ZeroDivisionError

    served.node.inference.generate = broken
    body = {"model": "prod", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with pytest.raises(http.client.IncompleteRead):
        served.request("POST", "/v1/chat/completions", body)
    assert served.request("GET", "/health")[0] == 200
