"""A question put to a room: where the room comes from, and the answer."""

from __future__ import annotations

import io
import json
import socket
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from rich.console import Console

from dreamer.protocol.errors import ForbiddenError, InputError, LocalError, NoMatchError
from dreamer.protocol.topology import to_json
from dreamer.simulations.whatif.run import Changes, answer_document, answer_table, whatif
from dreamer.simulations.whatif.source import read_topology


def test_more_seeders_beside_a_slow_one_make_it_faster_and_the_answer_says_so(
    room, written, make_member
):
    slow = make_member("seed", "direct", down=0.5)
    said = []
    seen = written(room(members=(slow, *room().members[1:])))
    answer = whatif(seen, Changes(more_seeders=4), report=said.append)
    base, changed = answer.runs
    assert changed.result.last_s < base.result.last_s / 2
    assert {len(one.pulled_s) for one in base.result.each if one.group != "seed"} == {1}
    assert said == ["running: as it is", "running: 4 more seeders"]
    document = answer_document(answer)
    assert document["base"]["trace_hash"] == base.result.engine.trace_hash
    assert document["cases"][0]["label"] == "4 more seeders"
    json.dumps(document)
    shown = io.StringIO()
    Console(width=120, file=shown).print(answer_table(answer))
    text = shown.getvalue()
    assert "as it is (A), and with 4 more seeders (B)" in text
    assert "assumed: rates are the most that was seen" in text


def test_same_question_has_the_same_answer(room, written):
    source = written(room())
    first, again = (whatif(source, Changes(), report=lambda _: None) for _ in range(2))
    assert first.runs[0].result.engine.trace_hash == again.runs[0].result.engine.trace_hash


# Where a room comes from


@pytest.fixture
def api():
    """Serves one answer over HTTP; yields how to set it, and the URL."""
    answers = {"status": 200, "body": b"{}", "asked": []}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answers["asked"].append((self.path, self.headers.get("Authorization")))
            self.send_response(answers["status"])
            self.end_headers()
            self.wfile.write(answers["body"])

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield answers, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_room_is_read_from_a_node_by_its_url_and_token(room, api):
    answers, url = api
    answers["body"] = json.dumps(to_json(room())).encode()
    assert read_topology(url, "my lab", "s3cret") == room()
    assert read_topology(url) == room()
    assert answers["asked"] == [
        ("/dreamer/v1/rooms/my%20lab/topology", "Bearer s3cret"),
        ("/dreamer/v1/rooms/-/topology", None),
    ]


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (401, b"", LocalError, "--token"),
        (403, b'{"error": {"code": "forbidden", "message": "no"}}', ForbiddenError, "no"),
        (404, b'{"error": {"code": "no_match", "message": "no room"}}', NoMatchError, "no room"),
        (200, b'{"name": "something else"}', InputError, "no topology"),
        (404, b"<html>", Exception, "is it a dreamerd"),
    ],
)
def test_node_that_gives_no_topology_says_why(api, status, body, error, said):
    answers, url = api
    answers.update(status=status, body=body)
    with pytest.raises(error, match=said):
        read_topology(url)


def test_node_that_is_not_there_is_said_to_be_away():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(LocalError, match="no node answers at"):
            read_topology(url)


def test_home_and_socket_are_those_of_a_daemon_that_runs(tmp_path):
    with pytest.raises(LocalError, match="no dreamerd is running"):
        read_topology(str(tmp_path))
    run = tmp_path / "run"
    run.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(run / "dreamerd.sock"))
        with pytest.raises(LocalError, match="no dreamerd is running"):
            read_topology(str(run / "dreamerd.sock"))
        with pytest.raises(InputError, match="give HOME itself"):
            read_topology("/dev/null")


@pytest.mark.parametrize("text", ["not json", "[]", '{"kind": "other"}'])
def test_file_that_is_no_topology_is_refused(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match="no topology"):
        read_topology(str(path))


def test_file_of_another_version_and_one_that_is_missing_are_refused(room, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({**to_json(room()), "version": 99}))
    with pytest.raises(InputError, match="export it anew"):
        read_topology(str(path))
    with pytest.raises(InputError, match="can't read"):
        read_topology(str(tmp_path / "missing.json"))


def test_unknown_rate_is_asked_for_by_mbit(room, written, make_member):
    quiet = replace(
        room(members=(make_member("seed", "direct"),), models=room().models[:1]),
        node=replace(room().node, measured=type(room().node.measured)()),
    )
    fast, slow = (
        whatif(written(quiet), Changes(pull="tiny"), mbit=mbit, report=lambda _: None)
        for mbit in (200.0, 50.0)
    )
    assert fast.runs[0].result.last_s < slow.runs[0].result.last_s
