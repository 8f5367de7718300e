"""libtorrent over TCP, with the settings that made it fastest here.

Usage: python -m dreamer.simulations.bench.contenders.libtorrent_tcp give|take TORRENT DIR PORT

``high_performance_seed``, 4 MiB socket buffers, no encryption, no uTP, none of its discovery. The
taker prints the seconds from the connection to the last verified piece, flushed.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import libtorrent as lt

from dreamer.simulations.bench.contenders.ends import Run, started, usage

SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
PIECE_BYTES = 4 * 1024 * 1024
POLL_S = 0.002


class LibtorrentTcp:
    """The contender."""

    name = "libtorrent TCP"

    def run(self, source: Path, scratch: Path) -> Run:
        """Move a file; the torrent is made before the clock starts."""
        torrent = make_torrent(source, scratch / "file.torrent")
        target = scratch / "target"
        target.mkdir()
        argv = [sys.executable, "-m", __spec__.name if __spec__ else __name__]
        with started([*argv, "give", str(torrent), str(source.parent), "0"]) as giver:
            assert giver.stdin is not None
            assert giver.stdout is not None
            port = giver.stdout.readline().strip()
            with started([*argv, "take", str(torrent), str(target), port]) as taker:
                assert taker.stdout is not None
                seconds = float(taker.stdout.readline())
                taken = usage(taker)
            giver.stdin.close()
            return Run(seconds, usage(giver), taken)


def make_torrent(source: Path, place: Path) -> Path:
    """Write a v1 torrent of one file; returns ``place``."""
    files = lt.file_storage()
    lt.add_files(files, str(source))
    made = lt.create_torrent(files, piece_size=PIECE_BYTES, flags=lt.create_torrent.v1_only)
    lt.set_piece_hashes(made, str(source.parent))
    place.write_bytes(lt.bencode(made.generate()))
    return place


def _session() -> lt.session:
    settings = lt.high_performance_seed()
    settings.update(
        {
            "listen_interfaces": "127.0.0.1:0",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_outgoing_utp": False,
            "enable_incoming_utp": False,
            "allow_multiple_connections_per_ip": True,
            "out_enc_policy": int(lt.enc_policy.pe_disabled),
            "in_enc_policy": int(lt.enc_policy.pe_disabled),
            "send_socket_buffer_size": SOCKET_BUFFER_BYTES,
            "recv_socket_buffer_size": SOCKET_BUFFER_BYTES,
            "alert_mask": 0,
        }
    )
    return lt.session(settings)


def _add(session: lt.session, torrent: Path, directory: Path) -> lt.torrent_handle:
    parameters = lt.add_torrent_params()
    parameters.ti = lt.torrent_info(str(torrent))
    parameters.save_path = str(directory)
    return session.add_torrent(parameters)


def give(torrent: Path, directory: Path) -> None:
    """Seed until stdin ends; prints the port."""
    session = _session()
    handle = _add(session, torrent, directory)
    while not handle.status().is_seeding:
        time.sleep(POLL_S)
    print(session.listen_port(), flush=True)
    sys.stdin.read()


def take(torrent: Path, directory: Path, port: int) -> None:
    """Download from a port of this machine."""
    session = _session()
    handle = _add(session, torrent, directory)
    while handle.status().state not in (
        lt.torrent_status.downloading,
        lt.torrent_status.finished,
        lt.torrent_status.seeding,
    ):
        time.sleep(POLL_S)
    started_at = time.monotonic()
    handle.connect_peer(("127.0.0.1", port))
    while not handle.status().is_seeding:
        time.sleep(POLL_S)
    handle.flush_cache()
    for path in directory.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDWR)
            os.fsync(fd)
            os.close(fd)
    print(time.monotonic() - started_at, flush=True)


if __name__ == "__main__":
    role, file, place, number = sys.argv[1:]
    if role == "give":
        give(Path(file), Path(place))
    else:
        take(Path(file), Path(place), int(number))
