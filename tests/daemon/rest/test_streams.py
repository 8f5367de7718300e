import json

import pytest

from dreamer.daemon.rest import events

STREAM = {"Accept": "text/event-stream"}
WAIT_S = 10.0


def frames(text):
    return [
        (lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: ")))
        for lines in (block.split("\n") for block in text.strip().split("\n\n"))
        if lines[0].startswith("event: ")
    ]


def test_pull_streams_progress_and_ends_with_its_receipt(served):
    status, headers, text = served.call("POST", "/pull", {"ref": "prod"}, STREAM)
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    found = frames(text)
    assert [name for name, _ in found] == ["progress", "progress", "receipt"]
    assert found[1][1]["by_lane"] == {"webrtc": 2**20}
    assert found[2][1]["bytes"]["origin"] == 0


def test_pull_without_streaming_answers_with_the_receipt(served):
    status, receipt = served.json("POST", "/pull", {"ref": "prod", "output": "/out"})
    assert (status, receipt["path"], receipt["manifest_id"]) == (200, "/out", "ab" * 32)


def test_push_answers_with_its_receipt(served):
    body = {"path": "/models/tiny", "room": "lab", "aliases": ["a"], "tags": ["t"]}
    status, receipt = served.json("POST", "/push", body)
    assert (status, receipt["name"], receipt["aliases"]) == (200, "tiny", ["a"])


def test_torrent_answers_with_its_receipt(served):
    status, receipt = served.json("POST", "/torrent", {"ref": "prod", "output": "/out.torrent"})
    assert (status, receipt["path"], receipt["public"]) == (200, "/out.torrent", False)
    assert receipt["info_hash_v2"] == "2b" * 32


def test_torrent_file_of_a_relative_path_is_refused(served):
    status, answer = served.json("POST", "/torrent", {"ref": "prod", "output": "out.torrent"})
    assert (status, answer["error"]["code"]) == (400, "bad_input")


def test_run_streams_who_what_and_how_it_ended(served):
    _, _, text = served.call("POST", "/run", {"ref": "prod", "prompt": "hi"}, STREAM)
    assert [name for name, _ in frames(text)] == ["started", "text", "text", "ended"]


def test_run_without_streaming_answers_with_everything(served):
    _, value = served.json("POST", "/run", {"ref": "prod", "prompt": "hi", "where": "peer"})
    assert value["text"] == "Hello wörld\x1b[31m"
    assert sorted(value) == [
        "cached_tokens", "completion_tokens", "decode_s", "finish_reason", "first_token_s",
        "load_s", "manifest_id", "node", "node_name", "prefill_s", "prompt_tokens", "queue_s",
        "seconds", "text", "where",
    ]  # fmt: skip


def test_failure_in_a_stream_is_an_error_event(served):
    _, _, text = served.call("POST", "/run", {"ref": "breaks", "prompt": "hi"}, STREAM)
    name, data = frames(text)[-1]
    assert (name, data) == (
        "error",
        {"code": "remote", "message": "the peer went away; run it again"},
    )


@pytest.mark.parametrize("headers", [STREAM, {}])
def test_client_that_goes_away_cancels_the_work(served, headers):
    connection = served.connection()
    body = json.dumps({"ref": "slow"})
    head = {"Content-Type": "application/json", **headers}
    connection.request("POST", "/dreamer/v1/pull", body, head)
    assert served.node.begun.wait(WAIT_S)
    assert not served.node.cancelled.is_set()
    connection.close()
    assert served.node.cancelled.wait(WAIT_S)


def test_silent_stream_carries_pings(served, monkeypatch):
    monkeypatch.setattr(events, "REST_PING_INTERVAL_S", 0.01)
    connection = served.connection()
    head = {"Content-Type": "application/json", **STREAM}
    connection.request("POST", "/dreamer/v1/pull", json.dumps({"ref": "slow"}), head)
    with connection.getresponse() as answer:
        lines = [answer.readline() for _ in range(5)]
    connection.close()
    assert b": ping\n" in lines
    assert served.node.cancelled.wait(WAIT_S)


def test_stopping_the_daemon_cancels_running_work(served):
    connection = served.connection()
    head = {"Content-Type": "application/json", **STREAM}
    connection.request("POST", "/dreamer/v1/pull", json.dumps({"ref": "slow"}), head)
    assert served.node.begun.wait(WAIT_S)
    served.stop()
    served.stop = lambda: None
    assert served.node.cancelled.is_set()
    connection.close()
