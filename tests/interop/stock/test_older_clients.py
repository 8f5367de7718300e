"""What Debian 12 has, which can't read hybrid torrents: aria2 1.36 and transmission 3.00.

They use a model's v1 torrent. Transmission dials nobody on loopback, so it meets our node and
tracker in a network namespace, at an address that isn't.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@pytest.mark.parametrize("how", ["torrent", "magnet"])
def test_older_aria2_fetches_from_our_node(older_aria2, published, same_files, tmp_path, how):
    older_aria2.fetch(str(getattr(published.older, how)), tmp_path)
    same_files(published.folder, tmp_path / published.older.name)


@pytest.fixture(scope="module")
def lab_apart(apart, lab_at, tmp_path_factory):
    with ExitStack() as stack:
        yield lab_at(tmp_path_factory.mktemp("apart"), apart.address, apart.inside, stack)


@pytest.fixture(scope="module")
def published_apart(lab_apart):
    return lab_apart.publish(lab_apart.node("A"))


@pytest.mark.root
@pytest.mark.parametrize("how", ["torrent", "magnet"])
def test_transmission_fetches_from_our_node(transmission, published_apart, same_files, how):
    fetching = transmission()
    fetching.take(str(getattr(published_apart.older, how)))
    fetching.finish()
    same_files(published_apart.folder, fetching.folder / published_apart.older.name)
