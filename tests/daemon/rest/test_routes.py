import json
import re
from pathlib import Path

import pytest
from in_memory.node import MemoryNode

from dreamer.daemon.rest.app import PREFIX, make_app

ROOT = Path(__file__).resolve().parents[3]


def test_lists_are_objects_with_one_list(served):
    assert served.json("GET", "/rooms")[1]["rooms"][0]["name"] == "lab"
    assert served.json("GET", "/models?room=lab")[1]["models"][0]["short_id"] == "abababab"
    assert served.json("GET", "/peers")[1]["peers"][0]["lane"] == "webrtc"
    assert served.json("GET", "/status")[1]["name"] == "memory"
    assert served.node.calls == [("models", "lab"), ("peers", None)]


def test_room_is_created(served):
    body = {"name": "new", "trackers": ["http://t"], "origin": "s3://b/p", "endpoint_url": None}
    status, room = served.json("POST", "/rooms", body)
    assert (status, room["name"], room["origin"]) == (201, "new", "s3://b/p")


def test_invitation_grants_member_and_publisher_once_for_a_day_by_default(served):
    status, value = served.json("POST", "/rooms/lab/invite", {})
    assert (status, value) == (200, {"token": "dreamer1-token"})
    assert served.node.calls == [("invite", "lab", ["member", "publisher"], 86400.0, 1)]


def test_token_is_redeemed_and_a_wrong_one_refused(served):
    assert served.json("POST", "/rooms/join", {"token": "dreamer1-token"})[1]["name"] == "lab"
    status, value = served.json("POST", "/rooms/join", {"token": "x"})
    assert (status, value["error"]["code"]) == (400, "bad_input")


def test_room_is_left(served):
    assert served.json("DELETE", "/rooms/lab") == (200, {"left": "lab"})


def test_member_is_removed(served):
    assert served.json("DELETE", "/rooms/lab/members/1a2b3c4d") == (
        200,
        {"removed": "1a2b3c4d" + "0" * 56},
    )
    assert served.node.calls == [("remove_member", "lab", "1a2b3c4d")]


def test_alias_is_set_and_removed(served):
    status, model = served.json("PUT", "/rooms/lab/aliases/next", {"ref": "prod"})
    assert (status, model["aliases"]) == (200, ["prod", "next"])
    assert served.json("DELETE", "/rooms/-/aliases/next")[1] == {"removed": "next"}
    assert served.node.calls[-1] == ("remove_alias", None, "next")


def test_tags_change_for_an_escaped_reference(served):
    path = "/rooms/lab/models/tag%3Avalidated/tags"
    status, model = served.json("POST", path, {"add": ["new"], "remove": ["validated"]})
    assert (status, model["tags"]) == (200, ["new"])
    assert served.node.calls[-1][2] == "tag:validated"


def test_model_is_removed(served):
    assert served.json("DELETE", "/models/prod?room=lab") == (200, {"freed_bytes": 3 * 2**20})


@pytest.mark.parametrize(
    ("ref", "status", "code"),
    [
        ("missing", 404, "no_match"),
        ("several", 409, "ambiguous"),
        ("refused", 403, "forbidden"),
        ("away", 502, "remote"),
        ("full", 503, "local"),
    ],
)
def test_failure_has_its_status_code_and_message(served, ref, status, code):
    for method, path, body in (("DELETE", f"/models/{ref}", None), ("POST", "/pull", {"ref": ref})):
        found, value = served.json(method, path, body)
        assert (found, value["error"]["code"]) == (status, code)
        assert value["error"]["message"] == str(served.node.FAILURES[ref])


def test_unknown_path_and_method_are_json_errors(served):
    status, value = served.json("GET", "/nothing")
    assert (status, value["error"]["code"]) == (404, "http_404")
    status, headers, _ = served.call("PATCH", "/rooms", {})
    assert (status, headers["Allow"]) == (405, "GET,POST")


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/rooms", {"trackers": []}, "'name' is missing"),
        ("/rooms", {"name": 5, "trackers": []}, "'name' must be a string"),
        ("/rooms", {"name": "a", "trackers": "t"}, "'trackers' must be a list of strings"),
        ("/rooms", {"name": "a", "trackers": [1]}, "'trackers' must be a list of strings"),
        ("/rooms", {"name": "a", "trackers": [], "tracker": 1}, "unknown field 'tracker'"),
        ("/rooms/lab/invite", {"uses": 0}, "'uses' must be 1 or more"),
        ("/rooms/lab/invite", {"uses": True}, "'uses' must be a whole number"),
        ("/rooms/lab/invite", {"expires_s": -1}, "'expires_s' must be more"),
        ("/rooms/lab/invite", {"expires_s": "24h"}, "'expires_s' must be a number"),
        ("/push", {"path": "rel", "room": "lab"}, "'path' must be an absolute path"),
        ("/pull", {"ref": "a", "output": "../up"}, "'output' must be an absolute path"),
        ("/pull", {"ref": None}, "'ref' must be a string"),
        ("/run", {"ref": "a", "prompt": "b", "where": "moon"}, "'where' must be one of"),
        ("/run", {"ref": "a", "prompt": "b", "where": ["auto"]}, "'where' must be one of"),
        ("/run", {"ref": "a", "prompt": "b", "max_tokens": 0}, "'max_tokens' must be between"),
        ("/run", {"ref": "a", "prompt": "b" * 300_000}, "'prompt' must be at most"),
        ("/pull", b"{", "not JSON"),
        ("/pull", b"[1]", "expected a JSON object"),
        ("/pull", b"\xff", "not JSON"),
        ("/pull", b"[" * 100_000, "not JSON"),
        ("/pull", b"", "'ref' is missing"),
    ],
)
def test_bad_body_is_refused_naming_the_field(served, path, body, named):
    status, value = served.json("POST", path, body, {"Content-Type": "application/json"})
    assert (status, value["error"]["code"]) == (400, "bad_input")
    assert named in value["error"]["message"]
    assert served.node.calls == []


def test_unknown_query_field_is_refused(served):
    status, value = served.json("GET", "/models?rom=lab")
    assert (status, value["error"]["message"]) == (
        400,
        "unknown query field 'rom'; it can be: room, query",
    )


def test_body_over_the_bound_is_refused(served):
    body = json.dumps({"ref": "x" * 2**20}).encode()
    status, value = served.json("POST", "/pull", body, {"Content-Type": "application/json"})
    assert (status, value["error"]["code"]) == (413, "http_413")


def test_documentation_names_every_route_and_no_other():
    page = (ROOT / "docs" / "rest.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^### `(\w+) (/dreamer/v1[^`?]*)", page, re.M))
    # Not below the API's prefix, but documented there.
    bare = ("/metrics", "/health", "/ready")
    routes = make_app(MemoryNode()).router.routes()
    found = {(route.method, route.resource.canonical) for route in routes}
    served = {one for one in found if one[1] in bare or one[1].startswith(PREFIX)}
    assert documented | {("GET", path) for path in bare} | {("HEAD", "/metrics")} == served
    for path in bare:
        assert re.search(rf"(?m)^### `GET {path}`", page)


async def test_every_curl_example_reaches_a_route():
    page = (ROOT / "docs" / "rest.md").read_text(encoding="utf-8")
    joined = page.replace("\\\n", " ")
    examples = re.findall(r"curl .*--unix-socket .*", joined)
    router = make_app(MemoryNode()).router
    for example in examples:
        method = (re.search(r"-X (\w+)", example) or ["", ""])[1]
        method = method or ("POST" if " -d " in example else "GET")
        path = re.search(r"http://dreamerd(/[^\s'\"?]*)", example)[1]
        assert any(_matches(route, method, path) for route in router.routes()), example
    assert len(examples) >= 15


def _matches(route, method, path):
    info = route.resource.get_info()
    pattern = info.get("pattern") or re.compile(re.escape(info.get("path", "")))
    return route.method == method and pattern.fullmatch(path) is not None


def test_topology_of_a_room_or_of_the_only_one(served):
    assert served.json("GET", "/rooms/lab/topology")[1]["kind"] == "dreamer.topology"
    assert served.json("GET", "/rooms/-/topology")[0] == 200
    assert served.node.calls == [("topology", "lab"), ("topology", None)]
