"""Chromium with webtorrent's bundle from npm, and libtorrent: a file each way."""

from __future__ import annotations

import hashlib

import libtorrent as lt
import pytest

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


def test_libtorrent_to_browser(page, libtorrent, torrent, torrent_file, tracker, original):
    libtorrent(torrent, original.parent)
    tracker.until(seeders=1)
    shown = page({"/content.torrent": torrent_file})
    shown.open(do="fetch")
    shown.heard.until("wire", type="webrtc")
    done = shown.heard.until("done")
    assert done["sha256"] == hashlib.sha256(original.read_bytes()).hexdigest()


def test_browser_to_libtorrent(page, libtorrent, tracker, original, copy, same):
    shown = page({"/content": original})
    shown.open(do="seed", tracker=tracker.url)
    made = shown.heard.until("seeding")["torrent"]
    tracker.until(seeders=1)
    fetching = libtorrent(lt.torrent_info(bytes.fromhex(made)), copy.parent)
    fetching.wait_until(lambda: fetching.has_all)
    same(original, copy)
