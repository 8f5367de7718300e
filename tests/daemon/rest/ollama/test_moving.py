import json

import pytest
from in_memory.inference import MODEL_ID

FETCH = {
    "status": "pulling abababababab",
    "digest": f"blake3:{MODEL_ID}",
    "total": 3 * 2**20,
    "completed": 2**20,
}


def test_pull_tells_bytes_and_ends_with_success(ollama):
    lines = ollama.lines("/api/pull", {"model": "prod:latest", "insecure": True})
    assert lines[0] == {"status": "pulling manifest"}
    assert FETCH in lines
    # The bar of a client ends at its end, however fast the pull was.
    assert lines[-3] == {**FETCH, "completed": FETCH["total"]}
    assert lines[-1]["status"] == "success"
    assert lines[-1]["receipt"]["bytes"]["webrtc"] == 3 * 2**20
    assert ollama.node.calls[-1] == ("pull", MODEL_ID, "lab", None)


def test_pull_in_one_answers_success(ollama):
    status, answer = ollama.ask("/api/pull", {"name": "prod", "stream": False})
    assert (status, answer["status"]) == (200, "success")


def test_pull_of_what_nobody_has_is_not_found(ollama):
    for stream in (True, False):
        status, answer = ollama.ask("/api/pull", {"model": "nope", "stream": stream})
        assert (status, answer["error"][:22]) == (404, "model 'nope' not found")


def test_pull_that_fails_says_so_in_its_last_line(ollama, monkeypatch):
    monkeypatch.setattr(ollama.node, "_check", _fail)
    lines = ollama.lines("/api/pull", {"model": "prod"})
    assert lines == [{"status": "pulling manifest"}, {"error": "the disk is full; free 3 GiB"}]
    status, answer = ollama.ask("/api/pull", {"model": "prod", "stream": False})
    assert (status, answer) == (503, {"error": "the disk is full; free 3 GiB"})


def _fail(ref):
    raise type_of_full()


def type_of_full():
    from in_memory.inference import FAILURES

    return FAILURES["full"]


def test_pull_ends_when_its_client_goes(ollama, monkeypatch):
    async def pull(ref, room, output):
        await ollama.node.inference._forever()
        yield None

    monkeypatch.setattr(ollama.node, "pull", pull)
    connection = ollama.connection()
    body = json.dumps({"model": "prod"}).encode()
    connection.request("POST", "/api/pull", body, {"Content-Type": "application/json"})
    assert ollama.node.begun.wait(10)
    connection.close()
    assert ollama.node.cancelled.wait(10)


def test_push_publishes_what_is_here_once_more(ollama):
    lines = ollama.lines("/api/push", {"model": "prod"})
    assert lines[0] == {"status": "retrieving manifest"}
    assert {"status": "hashing files", "total": 2, "completed": 1} in lines
    assert lines[-1]["status"] == "success"
    _, room, request = ollama.node.calls[-1]
    assert (room, request.name, request.aliases, request.tags) == ("lab", "tiny", (), ())
    assert not request.public


def test_push_keeps_a_public_model_public(ollama):
    ollama.node.info = {"magnet": "magnet:?xt=x"}
    ollama.lines("/api/push", {"model": "prod"})
    assert ollama.node.calls[-1][2].public


def test_push_to_another_room_takes_the_name_along(ollama):
    ollama.lines("/api/push", {"model": "prod@field"})
    _, room, request = ollama.node.calls[-1]
    assert (room, request.name, request.aliases) == ("field", "tiny", ("prod",))


def test_push_whose_origin_is_away_says_that_it_is_queued(ollama):
    ollama.node.receipt = {"origin_state": "queued", "origin_error": "no answer"}
    lines = ollama.lines("/api/push", {"model": "prod"})
    assert lines[-2]["status"].endswith("is queued: no answer")
    assert lines[-1]["status"] == "success"


@pytest.mark.parametrize(
    ("model", "status", "named"), [("nope", 404, "not found"), ("nope@field", 404, "not found")]
)
def test_push_of_what_is_nowhere_is_not_found(ollama, model, status, named):
    found, answer = ollama.ask("/api/push", {"model": model})
    assert (found, named in answer["error"]) == (status, True)


def test_push_of_what_is_elsewhere_says_to_pull_it(ollama):
    ollama.node.name_tiny("prod", here=False)
    status, answer = ollama.ask("/api/push", {"model": "prod"})
    assert (status, answer["error"]) == (400, "tiny is not on this node: pull it first")
