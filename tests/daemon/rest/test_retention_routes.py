"""What a room keeps, over REST and by the Python client."""

from __future__ import annotations

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.daemon.surfaces.retention import KeepRules
from dreamer.protocol.errors import ForbiddenError


def test_rules_are_read_and_set_as_a_whole(served):
    status, value = served.json("PUT", "/rooms/lab/policy", {"keep_last": 3, "max_age_s": 60})
    assert (status, value["said"]) == (200, ["the last 3 of each alias"])
    rules = {"keep_last": 3, "keep_tagged": [], "keep_any_tag": False, "max_age_s": 60}
    assert served.json("GET", "/rooms/lab/policy")[1]["rules"] == rules
    served.json("PUT", "/rooms/-/policy", {"keep_tagged": ["good"]})
    asked = ("set_policy", None, KeepRules(keep_tagged=("good",)))
    assert served.node.retention.asked[-1] == asked


def test_nothing_is_applied_unless_it_is_asked_for(served):
    _, value = served.json("POST", "/rooms/lab/retain", {})
    assert (value["applied"], value["going"][0]["short_id"]) == (False, "cdcdcdcd")
    _, value = served.json("POST", "/rooms/lab/gc", {})
    assert (value["applied"], value["removed_keys"], value["grace_s"]) == (False, 0, 86_400.0)
    _, value = served.json("POST", "/rooms/-/gc", {"apply": True, "grace_s": 60})
    assert value["removed_keys"] == 2
    assert served.node.retention.asked == [
        ("retain", "lab", False),
        ("collect", "lab", False, 86_400.0),
        ("collect", None, True, 60.0),
    ]


def test_upload_is_a_push_that_ends(served):
    status, value = served.json("POST", "/upload", {"path": "/data/set", "ttl_s": 60})
    assert (status, value["name"]) == (200, "set")
    _, room, request = served.node.calls[-1]
    assert (room, request.ttl_s, request.aliases) == (None, 60.0, ())


@pytest.mark.parametrize(
    ("method", "path", "body", "named"),
    [
        ("PUT", "/rooms/lab/policy", {"keep_last": "3"}, "'keep_last' must be"),
        ("PUT", "/rooms/lab/policy", {"keep_first": 3}, "unknown field 'keep_first'"),
        ("POST", "/rooms/lab/retain", {"apply": "yes"}, "'apply' must be"),
        ("POST", "/rooms/lab/gc", {"grace": 1}, "unknown field 'grace'"),
        ("POST", "/upload", {"path": "relative"}, "'path' must be an absolute path"),
        ("POST", "/upload", {"path": "/a", "aliases": ["x"]}, "unknown field 'aliases'"),
    ],
)
def test_bad_body_is_refused_naming_the_field(served, method, path, body, named):
    status, value = served.json(method, path, body)
    assert (status, value["error"]["code"]) == (400, "bad_input")
    assert named in value["error"]["message"]


def test_python_client_speaks_the_same(served, tmp_path):
    retention = Dreamer(served.home).retention
    assert retention.set_policy(KeepRules(keep_last=2), "lab").rules.keep_last == 2
    assert retention.policy().said == ("the last 2 of each alias",)
    assert retention.retain("lab", apply=True).kept[0].reasons == ("alias prod",)
    assert retention.collect("lab").garbage[0].keys == 3
    seen = []
    receipt = retention.upload(tmp_path, 3600, "lab", progress=seen.append)
    assert (receipt.name, [one.phase for one in seen]) == (tmp_path.name, ["hash"])
    with pytest.raises(ForbiddenError, match="only admins"):
        retention.set_policy(KeepRules(), "theirs")
