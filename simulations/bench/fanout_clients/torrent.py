"""The metadata that libtorrent and aria2 are given, and how it is seen that they are done."""

from __future__ import annotations

import time
from pathlib import Path

import libtorrent as lt

from dreamer.simulations.bench.fanout_clients.star import FILE, Star
from dreamer.simulations.loopback import LoopbackError

# Small pieces suit a fan-out: only whole ones can be passed on.
PIECE_BYTES = 256 * 1024
POLL_S = 0.02


def write_torrent(star: Star) -> Path:
    """Write a version 1 torrent of the source, which both can read; return where."""
    files = lt.list_files(str(star.source / FILE))
    made = lt.create_torrent(files, PIECE_BYTES, lt.create_torrent.v1_only)
    made.add_tracker(f"{star.tracker.url}/announce")
    lt.set_piece_hashes(made, str(star.source))
    torrent = star.scratch / "fanout.torrent"
    torrent.write_bytes(lt.bencode(made.generate()))
    return torrent


def seconds_until(signs: list[Path], began: float, timeout_s: float) -> list[float]:
    """Return after how many seconds since ``began`` (monotonic) each of these files appears.

    Raises:
        LoopbackError: one did not within ``timeout_s``.
    """
    seen: dict[Path, float] = {}
    while len(seen) < len(signs):
        now = time.monotonic() - began
        seen |= {sign: now for sign in signs if sign not in seen and sign.exists()}
        if now > timeout_s:
            raise LoopbackError(f"{len(signs) - len(seen)} were not done within {timeout_s:.0f} s")
        time.sleep(POLL_S)
    return [seen[sign] for sign in signs]
