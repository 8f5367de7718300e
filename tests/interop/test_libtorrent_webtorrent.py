"""libtorrent to libtorrent over WebRTC: they meet through our tracker and nowhere else."""

from __future__ import annotations

import libtorrent as lt
import pytest


@pytest.fixture
def torrent_flags():
    """v1 alone: of a hybrid, two libtorrents open two links, one a hash, and may drop both."""
    return lt.create_torrent.v1_only


@pytest.mark.interop
@pytest.mark.timeout(60)
@pytest.mark.parametrize("first", ["seeder", "leecher"])
def test_file_moves_whoever_comes_first(tracker, torrent, original, copy, same, libtorrent, first):
    peers = {}
    for who in sorted(("seeder", "leecher"), key=lambda each: each != first):
        peers[who] = libtorrent(torrent, (original if who == "seeder" else copy).parent)
        # One after the other: trackers of libtorrent can get stuck (libtorrent#7281).
        tracker.until(**{who + "s": 1})
    leecher = peers["leecher"]
    leecher.wait_until(lambda: leecher.has_all)
    same(original, copy)
    counted = tracker.stats()
    assert counted["offers"] > 0
    assert counted["answers"] > 0
    assert counted["refused"] == 0
