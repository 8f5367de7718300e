"""The store over REST, and by the Python client."""

from __future__ import annotations

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.protocol.errors import NoMatchError

MODEL_ID = "ab" * 32


def test_store_is_listed_and_measured(served):
    _, value = served.json("GET", "/store/models")
    assert [one["short_id"] for one in value["models"]] == ["abababab", "cdcdcdcd"]
    assert value["models"][0]["pinned"][0]["alias"] == "prod"
    _, usage = served.json("GET", "/store/usage")
    assert (usage["quota_bytes"], usage["models"][0]["own_bytes"]) == (2**23, 2**21)
    assert served.json("GET", "/store/pins")[1]["pins"][0]["reason"] == "by alias prod in lab"


def test_pins_are_set_and_removed(served):
    status, pin = served.json("POST", "/store/pin", {"ref": "prod", "alias": True})
    assert (status, pin["alias"]) == (200, "prod")
    _, value = served.json("POST", "/store/unpin", {"ref": "prod", "alias": True})
    assert value["unpinned"][0]["alias"] == "prod"
    status, value = served.json("POST", "/store/unpin", {"ref": "other"})
    assert (status, value["error"]["code"]) == (404, "no_match")


def test_verification_streams_or_answers_at_its_end(served):
    status, value = served.json("POST", "/store/verify", {})
    assert (status, value["damaged"], value["models"][0]["name"]) == (200, 0, "tiny")
    headers = {"Accept": "text/event-stream"}
    _, _, text = served.call("POST", "/store/verify", {"ref": "prod"}, headers)
    assert [line for line in text.splitlines() if line.startswith("event")] == [
        "event: progress",
        "event: receipt",
    ]


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/store/gc", {"older_than_s": -1}, "'older_than_s' must be 0"),
        ("/store/gc", {"remove": "yes"}, "'remove' must be"),
        ("/store/pin", {}, "'ref' is missing"),
        ("/store/verify", {"model": "x"}, "unknown field 'model'"),
    ],
)
def test_bad_body_is_refused_naming_the_field(served, path, body, named):
    status, value = served.json("POST", path, body)
    assert (status, value["error"]["code"]) == (400, "bad_input")
    assert named in value["error"]["message"]


def test_python_client_speaks_the_same(served):
    caches = Dreamer(served.home).caches
    served.node.caches.damaged = True
    seen = []
    receipt = caches.verify("prod", "lab", progress=seen.append)
    assert (receipt.damaged, receipt.models[0].lacking) == (1, ("w.bin",))
    assert [one.phase for one in seen] == ["verify"]
    assert caches.models()[0].pinned[0].alias == "prod"
    assert caches.usage().models[0].name == "tiny"
    assert caches.pin("prod").reason == "by hand"
    assert caches.unpin("prod")[0].manifest_id == MODEL_ID
    assert not caches.collect().removed
    assert caches.collect(remove=True, older_than_s=0).found[0].kind == "partial"
    assert served.node.caches.asked[-1] == ("collect", True, 0)
    assert caches.pins()[0].room == "lab"
    with pytest.raises(NoMatchError):
        caches.unpin("other")
