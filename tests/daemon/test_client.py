import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.daemon.ports import Progress, PullReceipt
from dreamer.daemon.rest import caller
from dreamer.daemon.rest.local_socket import listen
from dreamer.daemon.surfaces.inference import RunEnded, RunStarted, RunText
from dreamer.protocol.errors import (
    AmbiguousError,
    DreamerError,
    ForbiddenError,
    InputError,
    LocalError,
    NoMatchError,
    RemoteError,
)

WAIT_S = 10.0


@pytest.fixture
def dreamer(served):
    return Dreamer(served.home)


@pytest.fixture
def answering(tmp_path):
    """Starts a daemon that answers any request with the given bytes and hangs up."""
    threads = []

    def start(data: bytes) -> Dreamer:
        end = listen(tmp_path / "run" / "dreamerd.sock", 0o600)

        def answer() -> None:
            with end:
                connection, _ = end.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)

        threads.append(threading.Thread(target=answer))
        threads[-1].start()
        return Dreamer(tmp_path)

    yield start
    for thread in threads:
        thread.join(WAIT_S)


def test_pull_returns_the_path_and_tells_progress(dreamer, served):
    seen: list[Progress] = []
    path = dreamer.pull("prod", room="lab", output=Path("/out"), progress=seen.append)
    assert path == Path("/out")
    assert [one.phase for one in seen] == ["resolve", "fetch"]
    assert seen[1].by_lane == {"webrtc": 2**20}
    assert served.node.calls == [("pull", "prod", "lab", Path("/out"))]


def test_relative_paths_are_those_of_the_client(dreamer, served, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert dreamer.pull("prod", output="here") == tmp_path / "here"
    receipt = dreamer.push("tiny", "lab", aliases=["a"], tags=["t"])
    assert served.node.calls[-1][-1].path == tmp_path / "tiny"
    assert (receipt.name, receipt.aliases, receipt.tags) == ("tiny", ("a",), ("t",))
    asked = served.node.calls[-1][-1]
    assert (asked.allow_pickle, asked.public) == (False, False)
    dreamer.push("tiny", "lab", allow_pickle=True)
    assert served.node.calls[-1][-1] == replace(asked, aliases=(), tags=(), allow_pickle=True)
    dreamer.push("tiny", "lab", public=True)
    assert served.node.calls[-1][-1] == replace(asked, aliases=(), tags=(), public=True)


def test_torrent_returns_the_hashes_and_writes_where_the_client_says(
    dreamer, served, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    seen: list[Progress] = []
    receipt = dreamer.torrent("prod", output="tiny.torrent", progress=seen.append)
    assert (receipt.info_hash_v1, receipt.info_hash_v2) == ("1a" * 20, "2b" * 32)
    assert [one.phase for one in seen] == ["torrent"]
    assert served.node.calls == [("torrent", "prod", None, tmp_path / "tiny.torrent")]


def test_events_of_a_pull_end_with_the_receipt(dreamer):
    *_, receipt = dreamer.pull_events("prod")
    assert isinstance(receipt, PullReceipt)
    assert receipt.bytes["webrtc"] == 3 * 2**20
    assert receipt.blamed == ()


def test_run_yields_text(dreamer, served):
    assert list(dreamer.run("prod", "hi", where="peer", max_tokens=5)) == [
        "Hello ",
        "wörld\x1b[31m",
    ]
    _, model, request, options = served.node.inference.asked[0]
    assert (model, request.max_tokens, options.prefer) == ("prod", 5, "peer")


def test_run_events_say_who_ran_it(dreamer):
    kinds = [type(event) for event in dreamer.run_events("prod", "hi")]
    assert kinds == [RunStarted, RunText, RunText, RunEnded]


def test_closing_a_run_stops_the_generation(dreamer, served):
    text = dreamer.run("slow", "hi")
    assert next(text) == "Hello "
    text.close()
    assert served.node.cancelled.wait(WAIT_S)


def test_lists_are_typed(dreamer):
    assert dreamer.rooms()[0].roles == ("member", "publisher")
    assert dreamer.models("lab")[0].aliases == ("prod",)
    assert dreamer.peers()[0].rtt_ms == 1.5
    assert dreamer.status()["name"] == "memory"


def test_rooms_are_made_joined_and_left(dreamer, served):
    assert dreamer.create_room("new room", ["http://t"], "s3://b").origin == "s3://b"
    assert dreamer.invite("new room", uses=2) == "dreamer1-token"
    assert dreamer.join_room("dreamer1-token").name == "lab"
    assert dreamer.remove_member("new room", "1a2b3c4d") == "1a2b3c4d" + "0" * 56
    dreamer.leave_room("new room")
    assert served.node.calls[1] == ("invite", "new room", ["member", "publisher"], 86400.0, 2)
    assert served.node.calls[2] == ("remove_member", "new room", "1a2b3c4d")
    assert served.node.calls[3] == ("leave_room", "new room")


def test_names_change(dreamer, served):
    assert dreamer.set_alias("next", "tag:validated").aliases == ("prod", "next")
    assert served.node.calls[0] == ("set_alias", None, "next", "tag:validated")
    dreamer.remove_alias("next", room="lab")
    assert dreamer.change_tags("prod", add=["x"], remove=["validated"]).tags == ("x",)
    assert dreamer.remove("prod") == 3 * 2**20


@pytest.mark.parametrize(
    ("ref", "kind"),
    [
        ("missing", NoMatchError),
        ("several", AmbiguousError),
        ("refused", ForbiddenError),
        ("away", RemoteError),
        ("full", LocalError),
    ],
)
def test_errors_of_the_daemon_come_back_as_themselves(dreamer, served, ref, kind):
    for call in (dreamer.pull, dreamer.remove):
        with pytest.raises(kind) as caught:
            call(ref)
        assert str(caught.value) == str(served.node.FAILURES[ref])


def test_mistaken_argument_is_named(dreamer):
    with pytest.raises(InputError, match="'max_tokens' must be between"):
        list(dreamer.run("prod", "hi", max_tokens=0))


def test_no_daemon_says_how_to_start_one(tmp_path):
    with pytest.raises(LocalError, match=f"start it with: dreamerd --home {tmp_path}"):
        Dreamer(tmp_path).status()
    with pytest.raises(LocalError, match="no dreamerd is running"):
        next(Dreamer(tmp_path).pull_events("prod"))


def test_daemon_that_died_and_left_its_socket_says_how_to_start_one(tmp_path):
    listen(tmp_path / "run" / "dreamerd.sock", 0o600).close()
    with pytest.raises(LocalError, match="start it with"):
        Dreamer(tmp_path).rooms()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: ping\n\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz",
        b"SSH-2.0-hello\r\n",
    ],
)
def test_daemon_that_goes_away_half_way_is_a_clear_error(answering, data):
    with pytest.raises(LocalError, match="went away"):
        answering(data).pull("prod")


def test_failure_without_json_points_to_the_log(answering):
    data = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\n500"
    with pytest.raises(DreamerError, match=r"HTTP 500.*log"):
        answering(data).status()


def test_silent_daemon_is_given_up(dreamer, served, monkeypatch):
    monkeypatch.setattr(caller, "CLIENT_SILENCE_TIMEOUT_S", 0.5)
    with pytest.raises(LocalError, match="runs but has said nothing"):
        dreamer.pull("slow")
    assert served.node.cancelled.wait(WAIT_S)


def test_daemon_that_accepts_and_never_answers_is_not_said_to_be_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(caller, "CLIENT_REQUEST_TIMEOUT_S", 0.2)
    with (
        listen(tmp_path / "run" / "dreamerd.sock", 0o600),
        pytest.raises(LocalError, match="runs but has said nothing"),
    ):
        Dreamer(tmp_path).status()


def test_home_comes_from_the_environment(served, monkeypatch):
    monkeypatch.setenv("DREAMER_HOME", str(served.home))
    assert Dreamer().status()["name"] == "memory"


def test_home_that_may_not_be_entered_is_looked_for_in_its_session(served, tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    reach = caller.connect

    def connect(path, timeout_s):
        if path.is_relative_to(closed):
            raise PermissionError(13, "Permission denied")
        return reach(path, timeout_s)

    monkeypatch.setattr(caller, "connect", connect)
    with pytest.raises(LocalError, match="belongs to somebody else"):
        Dreamer(closed).status()
    monkeypatch.setattr(caller, "existing_session_homes", lambda home, environ: [served.home])
    assert Dreamer(closed).status()["name"] == "memory"
