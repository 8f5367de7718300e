"""How long a removed member stays: every trace of it is gone within seconds, in mid-pull."""

from __future__ import annotations

import re
import signal
import socket
import socketserver
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MIB = 2**20
LARGE = 64 * MIB
# Or the direct lane would have moved it before anybody is removed.
SLOW = {"DREAMER_SHARING_DOWN_MBIT": "80", "DREAMER_SHARING_LAN_EXEMPT": "false"}
STARTED = 2 * MIB
# What the tracker promises of a removal.
CUT_S = 5.0
WAIT_S = 60.0
ROOM = "cut"


class Visit:
    """One connection to the tracker, and the session that was opened on it, if any."""

    def __init__(self) -> None:
        self.session: str | None = None
        self.ended: float | None = None
        self.refused = False
        self._heard = b""

    def hear(self, data: bytes) -> None:
        """Note what the tracker says; its frames are not masked (RFC 6455, section 5.3)."""
        self._heard = (self._heard + data)[-65_536:]
        if self.session is None and (found := re.search(rb'"session":"([^"]+)"', self._heard)):
            self.session = found[1].decode()
        self.refused = self.refused or b'"type":"refused"' in self._heard


class Wiretap(socketserver.ThreadingTCPServer):
    """Passes connections on to the tracker and listens in: the nodes know no other address."""

    daemon_threads = True

    def __init__(self, tracker: str) -> None:
        super().__init__(("127.0.0.1", 0), None)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.visits: list[Visit] = []
        self._tracker = (urlsplit(tracker).hostname, urlsplit(tracker).port)

    @property
    def entered(self) -> list[Visit]:
        """The visits that were welcomed, in order."""
        return [visit for visit in self.visits if visit.session is not None]

    def finish_request(self, request: socket.socket, _address: object) -> None:
        visit = Visit()
        self.visits.append(visit)
        with socket.create_connection(self._tracker) as up:
            asking = threading.Thread(target=_pump, args=(request, up, lambda data: None))
            asking.start()
            _pump(up, request, visit.hear)
            visit.ended = time.monotonic()
            asking.join()

    @contextmanager
    def running(self):
        serving = threading.Thread(target=self.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield self
        finally:
            self.shutdown()
            serving.join()
            self.server_close()


def _pump(source: socket.socket, sink: socket.socket, heard: Callable[[bytes], None]) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            heard(data)
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def wiretap(services):
    with Wiretap(services[0]).running() as tap:
        yield tap


@pytest.fixture(scope="module")
def trio(wiretap, team):
    """A, who made the room, C, and B, who came last and shall be removed."""
    a, c, b = team.node("A"), team.node("C"), team.node("B", env=SLOW)
    a.dreamer("room", "create", ROOM, "--tracker", wiretap.url)
    for number, node in enumerate((c, b), start=1):
        until(lambda expected=number: len(wiretap.entered) == expected, "a login", WAIT_S)
        team.join(node, a, ROOM)
    until(lambda: len(wiretap.entered) == 3, "the logins", WAIT_S)
    return a, b, c


@pytest.fixture(scope="module")
def large(team, trio):
    """A model that takes a while to move; A and C have it."""
    source = team.model("large", LARGE)
    trio[0].dreamer("push", str(source), "--room", ROOM, "--alias", "large")
    Dreamer(trio[2].home).pull("large", ROOM)
    return source


def linked(node, other) -> bool:
    return any(
        peer.linked and peer.name == other.home.name for peer in Dreamer(node.home).peers(ROOM)
    )


def registry_status(tracker: str, room_id: str, bearer: str) -> int:
    request = urllib.request.Request(
        f"{tracker}/rooms/{room_id}/registry", headers={"Authorization": f"Bearer {bearer}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_removed_member_is_cut_off_everywhere_in_mid_pull(team, trio, large, wiretap, watch):
    a, b, c = trio
    room_id = Dreamer(a.home).rooms()[0].room_id
    node_id = Dreamer(b.home).status()["node_id"]
    visit = wiretap.entered[-1]
    assert registry_status(team.tracker, room_id, visit.session) == 200
    with b.begin("pull", "large", "--room", ROOM) as pull:
        watch.pulling(b, STARTED)
        until(lambda: linked(b, a) and linked(b, c), "B linked to both", WAIT_S)
        came = len(wiretap.entered)

        began = time.monotonic()
        a.dreamer("room", "remove", ROOM, node_id)
        told_s = time.monotonic() - began
        for what, gone in (
            ("its socket at the tracker cut", lambda: visit.ended is not None),
            (
                "its token dead",
                lambda: registry_status(team.tracker, room_id, visit.session) == 401,
            ),
            ("its link to A dropped", lambda: not linked(a, b)),
            ("its link to C dropped", lambda: not linked(c, b)),
            ("B without a link", lambda: not linked(b, a) and not linked(b, c)),
        ):
            until(gone, what, CUT_S)
            print(f"{what} after {time.monotonic() - began:.2f} s (told after {told_s:.2f} s)")
        assert visit.refused
        pull.send_signal(signal.SIGINT)
        _, err = pull.communicate(timeout=WAIT_S)
    assert pull.returncode == 130, err
    assert not any(part.suffix == ".bin" for part in (b.home / "models").rglob("*"))

    # Nor does it come back: not by itself, not when it starts again.
    b.process.stop()
    b.start()
    until(lambda: wiretap.visits[-1].refused, "its next login refused", WAIT_S)
    assert len(wiretap.entered) == came
    assert not Dreamer(b.home).rooms()[0].connected
    assert "membership was revoked: ask an admin" in b.process.log.read_text()
    assert not linked(a, b)
    assert not linked(c, b)
