"""libtorrent to libtorrent over WebRTC: they meet through our tracker and nowhere else."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import libtorrent as lt
import pytest

FILE_BYTES = 4 << 20
DEADLINE_S = 40.0

SETTINGS = {
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_tcp": False,
    "enable_outgoing_tcp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "webtorrent_stun_server": "",
    # Only because everything here is on loopback.
    "ssrf_mitigation": False,
    "alert_mask": lt.alert.category_t.tracker_notification
    | lt.alert.category_t.status_notification,
}


@pytest.fixture
def tracker_url(tmp_path):
    command = [sys.executable, "-m", "dreamer.tracker.main"]
    command += ["--listen", "127.0.0.1:0", "--data", str(tmp_path / "tracker")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.fixture
def original(tmp_path) -> Path:
    file = tmp_path / "from" / "model.bin"
    file.parent.mkdir()
    file.write_bytes(random.Random(5).randbytes(FILE_BYTES))
    return file


def torrent_of(file: Path, url: str) -> lt.torrent_info:
    """A hybrid torrent: WebRTC needs the v1 half."""
    creator = lt.create_torrent(lt.list_files(str(file)))
    creator.add_tracker(url.replace("http://", "ws://") + "/announce")
    lt.set_piece_hashes(creator, str(file.parent))
    return lt.torrent_info(lt.bencode(creator.generate()))


def add(session: lt.session, torrent: lt.torrent_info, folder: Path) -> lt.torrent_handle:
    wanted = lt.add_torrent_params()
    wanted.ti = torrent
    wanted.save_path = str(folder)
    # Neither queued nor paused: it begins at once.
    wanted.flags = lt.torrent_flags.update_subscribe
    return session.add_torrent(wanted)


def wait_until(done, *sessions: lt.session) -> None:
    ends = time.monotonic() + DEADLINE_S
    while not done():
        said = [str(alert) for session in sessions for alert in session.pop_alerts()]
        assert time.monotonic() < ends, said
        sessions[0].wait_for_alert(50)


def stats(url: str) -> dict:
    with urllib.request.urlopen(url + "/stats", timeout=5) as response:
        return json.load(response)


@pytest.mark.interop
@pytest.mark.timeout(60)
@pytest.mark.parametrize("first", ["seeder", "leecher"])
def test_file_moves_whoever_comes_first(tmp_path, tracker_url, original, first):
    torrent = torrent_of(original, tracker_url)
    seeding, fetching = lt.session(SETTINGS), lt.session(SETTINGS)
    copy = tmp_path / "to" / original.name

    def arrive(who: str) -> lt.torrent_handle:
        session, folder = (seeding, original) if who == "seeder" else (fetching, copy)
        handle = add(session, torrent, folder.parent)
        wait_until(lambda: stats(tracker_url)[who + "s"] > 0, session)
        return handle

    handles = {who: arrive(who) for who in sorted(("seeder", "leecher"), key=lambda w: w != first)}
    wait_until(lambda: handles["leecher"].status().is_seeding, fetching, seeding)
    # libtorrent says that it is done before the last of its writes are in the file.
    wait_until(lambda: copy.read_bytes() == original.read_bytes(), fetching)
    counted = stats(tracker_url)
    assert counted["offers"] > 0
    assert counted["answers"] > 0
    assert counted["refused"] == 0
