import pytest

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "", "127.0.0.1.evil", "a@localhost", "localhost/x",
     "10.0.0.1", "localhost:x", "[::2]"],
)  # fmt: skip
def test_foreign_host_is_refused(served, host):
    status, value = served.json("GET", "/status", headers={"Host": host})
    assert (status, value["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:8471", "[::1]:9", "dreamerd", "LOCALHOST"]
)
def test_known_host_is_served(served, host):
    assert served.call("GET", "/status", headers={"Host": host})[0] == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:3000", "http://dreamerd.evil"]
)
def test_foreign_origin_is_refused_and_gets_no_cors_header(served, origin):
    headers = {"Origin": origin, "Host": "localhost"}
    status, answered, _ = served.call("GET", "/status", headers=headers)
    assert status == 403
    assert not [name for name in answered if name.lower().startswith("access-control")]


def test_own_origin_is_served(served):
    headers = {"Origin": "http://localhost:8471", "Host": "localhost:8471"}
    assert served.call("GET", "/status", headers=headers)[0] == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_write_of_another_type_is_refused(served, kind):
    status, value = served.json("POST", "/pull", b'{"ref": "prod"}', {"Content-Type": kind})
    assert (status, value["error"]["code"]) == (415, "http_415")
    assert served.node.calls == []


@pytest.mark.parametrize("path", ["/dreamer/v1/pull", "/v1/completions", "/api/generate"])
def test_body_that_is_not_compressed_as_it_says_is_bad_input(served, path):
    headers = {**JSON, "Content-Encoding": "gzip"}
    status, _, answer = served.request("POST", path, b"plain", headers)
    assert status == 400
    assert b"can't be read" in answer


@pytest.mark.parametrize(
    "given", [None, "Bearer wrong", "Bearer", "Bearer ", "Basic s3cret", "s3cret", "Bearer s3cret2"]
)
def test_tcp_without_the_token_is_refused(served_by_tcp, given):
    headers = {} if given is None else {"Authorization": given}
    status, value = served_by_tcp.json("GET", "/status", headers=headers, by_tcp=True)
    assert (status, value["error"]["code"]) == (401, "http_401")
    assert "api-token" in value["error"]["message"]


def test_tcp_with_the_token_is_served_and_the_socket_needs_none(served_by_tcp):
    headers = {"Authorization": "Bearer s3cret"}
    assert served_by_tcp.call("GET", "/status", headers=headers, by_tcp=True)[0] == 200
    assert served_by_tcp.call("GET", "/status")[0] == 200


def test_preflight_of_a_browser_gets_no_permission(served):
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"}
    status, answered, _ = served.call("OPTIONS", "/rooms/lab", headers=headers)
    assert status == 403
    assert "Access-Control-Allow-Origin" not in answered
