"""npm webtorrent in Node, over WebRTC: with itself, and with libtorrent either way.

Its peers meet at our tracker and nowhere else: nothing is looked up, no TCP or uTP is spoken.
"""

from __future__ import annotations

import libtorrent as lt
import pytest

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@pytest.fixture
def webtorrent(driver, torrent_file):
    """``webtorrent(folder)`` seeds what the folder holds and fetches what it lacks."""

    def start(folder, named=torrent_file):
        child = driver("webtorrent_peer.mjs", "webtorrent", str(named), str(folder))
        child.until("ready")
        return child

    return start


def test_webtorrent_to_webtorrent(webtorrent, tracker, original, copy, same):
    webtorrent(original.parent)
    tracker.until(seeders=1)
    fetching = webtorrent(copy.parent)
    fetching.until("wire", type="webrtc")
    fetching.until("done")
    same(original, copy)


def test_libtorrent_to_webtorrent(webtorrent, libtorrent, torrent, tracker, original, copy, same):
    libtorrent(torrent, original.parent)
    tracker.until(seeders=1)
    fetching = webtorrent(copy.parent)
    fetching.until("wire", type="webrtc")
    fetching.until("done")
    same(original, copy)


def test_webtorrent_to_libtorrent(webtorrent, libtorrent, torrent, tracker, original, copy, same):
    webtorrent(original.parent)
    tracker.until(seeders=1)
    fetching = libtorrent(torrent, copy.parent)
    fetching.wait_until(lambda: fetching.has_all)
    same(original, copy)


def test_magnet_link_is_enough(webtorrent, libtorrent, torrent, tracker, original, copy, same):
    libtorrent(torrent, original.parent)
    tracker.until(seeders=1)
    # Its length is unknown until a peer says it: ``left`` is null on the wire.
    webtorrent(copy.parent, lt.make_magnet_uri(torrent)).until("done")
    same(original, copy)
