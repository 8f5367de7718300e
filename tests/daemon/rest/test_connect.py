"""Texts for links with no tracker, over the API."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.daemon.ports import MeetingText, PeerInfo
from dreamer.protocol.errors import InputError


def test_offer_is_made_in_a_room_or_in_the_only_one(served):
    status, made = served.json("POST", "/connect/offer", {"room": "lab"})
    assert (status, made) == (
        201,
        {
            "kind": "offer",
            "text": "DREAMER-OFFER.AE",
            "room": "lab",
            "node": None,
            "expires_s": 600.0,
        },
    )
    assert served.json("POST", "/connect/offer", {})[0] == 201
    assert served.node.calls == [("offer_link", "lab"), ("offer_link", None)]


def test_an_offer_is_answered_and_an_answer_links(served):
    status, value = served.json("POST", "/connect/answer", {"text": "DREAMER-OFFER.AE"})
    assert (status, value["answer"]["text"]) == (200, "DREAMER-ANSWER.AE")
    status, value = served.json("POST", "/connect/answer", {"text": "DREAMER-ANSWER.AE"})
    assert (status, value["linked"]["node_id"]) == (200, "ef" * 32)


def test_the_client_gives_back_what_it_was(served):
    client = Dreamer(served.home)
    offer = client.offer_link("lab")
    assert offer == MeetingText("offer", "DREAMER-OFFER.AE", "lab", None, 600.0)
    answer = client.take_meeting_text(offer.text)
    assert isinstance(answer, MeetingText)
    linked = client.take_meeting_text(answer.text)
    assert isinstance(linked, PeerInfo)
    assert asdict(linked)["lane"] == "webrtc"
    with pytest.raises(InputError, match="cut short"):
        client.take_meeting_text("DREAMER-OFFER.A")


@pytest.mark.parametrize(
    ("path", "body", "status", "named"),
    [
        ("/connect/answer", {}, 400, "'text' is missing"),
        ("/connect/answer", {"text": 5}, 400, "'text' must be a string"),
        ("/connect/offer", {"rom": "lab"}, 400, "unknown field 'rom'"),
        ("/connect/answer", {"text": "A" * 2**20}, 413, ""),
    ],
)
def test_bad_bodies_are_refused(served, path, body, status, named):
    found, value = served.json("POST", path, body)
    assert found == status
    assert named in value["error"]["message"]
    assert served.node.calls == []


def test_a_room_is_made_without_a_tracker_when_that_is_said(served):
    body = {"name": "cave", "trackers": [], "no_tracker": True}
    status, room = served.json("POST", "/rooms", body)
    assert (status, room["trackers"]) == (201, [])
    assert served.node.calls == [("create_room", "cave", [], None, None, "no tracker")]
