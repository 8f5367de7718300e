"""Clients of others fetch a public model of one of our nodes, and nothing but the torrent's name
or its magnet link tells them of it: over TCP, over WebRTC, and from a web seed."""

from __future__ import annotations

import asyncio
import threading

import libtorrent as lt
import pytest
from aiohttp import web

from dreamer.protocol.bencode import decode, encode

pytestmark = [pytest.mark.interop, pytest.mark.timeout(90)]


@pytest.mark.parametrize("how", ["torrent", "magnet"])
def test_aria2_fetches_it(aria2, published, same_files, tmp_path, how):
    aria2.fetch(str(getattr(published, how)), tmp_path)
    same_files(published.folder, tmp_path / published.name)
    # It knows nothing of padding files (BEP 47), and keeps them.
    assert (tmp_path / published.name / ".pad").is_dir()


@pytest.mark.parametrize("over", ["tcp", "rtc"])
def test_libtorrent_fetches_it(session, published, same_files, tmp_path, over):
    fetching = session(over, published.torrent_over(over, tmp_path), tmp_path)
    fetching.wait_until(lambda: fetching.has_all)
    same_files(published.folder, tmp_path / published.name)


@pytest.mark.parametrize(
    ("how", "over", "wire"),
    [("torrent", "tcp", "tcpOutgoing"), ("torrent", "rtc", "webrtc"), ("magnet", "rtc", "webrtc")],
)
def test_webtorrent_in_node_fetches_it(driver, published, same_files, tmp_path, how, over, wire):
    magnet = published.magnet_over(over)
    named = magnet if how == "magnet" else str(published.torrent_over(over, tmp_path))
    fetching = driver("webtorrent_peer.mjs", "webtorrent", named, str(tmp_path))
    fetching.until("wire", type=wire)
    fetching.until("done")
    same_files(published.folder, tmp_path / published.name)


def test_browser_fetches_it(page, published, sums):
    shown = page({"/content.torrent": published.torrent})
    shown.open(do="fetch")
    shown.heard.until("wire", type="webrtc")
    done = shown.heard.until("done")
    wanted = {f"{published.name}/{path}": each for path, each in sums(published.folder).items()}
    assert {path: each for path, each in done["files"].items() if "/.pad/" not in path} == wanted


class WebSeed:
    """A web server with a model's directory, and the zeros between its files if ``padded``."""

    def __init__(self, published, padded: bool) -> None:
        self._root = published.folder
        self._padded = padded
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        app = web.Application()
        app.router.add_get(f"/{published.name}/{{path:.+}}", self._get)
        self._runner = web.AppRunner(app)
        self._do(self._serve())

    def end(self) -> None:
        self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    async def _serve(self) -> None:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def _get(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        if path.startswith(".pad/") and self._padded:
            return web.Response(body=bytes(int(path.removeprefix(".pad/"))))
        file = self._root / path
        return web.FileResponse(file) if file.is_file() else web.Response(status=404)


@pytest.fixture
def web_seed(published):
    server = WebSeed(published, padded=True)
    yield server
    server.end()


def test_aria2_fetches_it_from_a_web_seed_alone(aria2, published, web_seed, same_files, tmp_path):
    """It asks a web seed for the padding as well (BEP 19 says nothing of it)."""
    said = decode(published.torrent.read_bytes())
    alone = {b"info": said[b"info"], b"url-list": [web_seed.url.encode()]}
    torrent = tmp_path / "alone.torrent"
    torrent.write_bytes(encode(alone))
    aria2.fetch(str(torrent), tmp_path)
    same_files(published.folder, tmp_path / published.name)


def test_torrent_and_magnet_link_name_one_torrent(published):
    of_file = lt.torrent_info(published.torrent.read_bytes()).info_hashes()
    of_link = lt.parse_magnet_uri(published.magnet).info_hashes
    assert (of_file.v1, of_file.v2) == (of_link.v1, of_link.v2)
