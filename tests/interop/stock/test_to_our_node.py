"""Our node pulls a public model of which only a client of others has a whole copy.

The receipt says that every byte came over the torrent lane; the files are compared by their hashes.
"""

from __future__ import annotations

import pytest

SEEDERS = {"tcp": {"tcp_seeders": 1}, "rtc": {"seeders": 1}}

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@pytest.fixture
def pulled(orphan, same_files):
    """``pulled()`` has a newcomer pull, and looks at what it got and how."""

    def pull() -> None:
        place, receipt = orphan.pull()
        same_files(orphan.published.folder, place)
        came_by = {lane: size for lane, size in receipt["bytes"].items() if size}
        total = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        assert came_by == {"torrent": total}

    return pull


def test_our_node_pulls_from_aria2(aria2, orphan, pulled, tmp_path):
    with aria2.seeding(orphan.published.torrent, orphan.copy(tmp_path)) as seeder:
        seeder.start("Seeding|Verification finished|listening on TCP")
        orphan.announced(tcp_seeders=1)
        pulled()


@pytest.mark.parametrize("over", ["tcp", "rtc"])
def test_our_node_pulls_from_libtorrent(session, orphan, pulled, tmp_path, over):
    session(over, orphan.published.torrent_over(over, tmp_path), orphan.copy(tmp_path))
    orphan.announced(**SEEDERS[over])
    pulled()


@pytest.mark.parametrize("over", ["tcp", "rtc"])
def test_our_node_pulls_from_webtorrent_in_node(driver, orphan, pulled, tmp_path, over):
    named = str(orphan.published.torrent_over(over, tmp_path))
    seeder = driver("webtorrent_peer.mjs", "webtorrent", named, str(orphan.copy(tmp_path)))
    seeder.until("ready")
    orphan.announced(**SEEDERS[over])
    pulled()


def test_our_node_pulls_from_a_browser(page, orphan, pulled):
    """A page has no files: it fetches from the publisher first, which then goes."""
    shown = page({"/content.torrent": orphan.published.torrent})
    with orphan.publisher:
        orphan.announced(seeders=1)
        shown.open(do="fetch")
        shown.heard.until("done")
    pulled()
