"""The tracker beside a node, as a process: it serves, comes back, and ends with the node."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import aiohttp
import psutil
import pytest

from dreamer.daemon.embedded_tracker import embedded_tracker
from dreamer.daemon.field_types import TableText
from dreamer.daemon.places import find_places
from dreamer.daemon.settings.tracker import TrackerSection
from dreamer.protocol.errors import LocalError

pytestmark = pytest.mark.e2e

WAIT_S = 60.0


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


def beside(home, listen="127.0.0.1:0"):
    return embedded_tracker(TrackerSection(listen=listen), find_places(home, ""))


def processes(home):
    """Return the tracker processes of one home."""
    return [
        one
        for one in psutil.Process().children()
        if one.status() != psutil.STATUS_ZOMBIE
        and str(find_places(home, "").tracker) in one.cmdline()
    ]


async def healthy(http, url):
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                async with http.get(f"{url}/health") as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                await asyncio.sleep(0.02)


async def said(caplog, words):
    async with asyncio.timeout(WAIT_S):
        while words not in caplog.text:
            await asyncio.sleep(0.02)


async def test_tracker_that_dies_is_started_again_at_the_same_address(tmp_path, http, caplog):
    async with beside(tmp_path) as url:
        assert await healthy(http, url)
        (first,) = processes(tmp_path)
        with caplog.at_level(logging.INFO, "dreamer.daemon.embedded_tracker"):
            os.kill(first.pid, signal.SIGKILL)
            await said(caplog, f"back at {url}")
        assert await healthy(http, url)
        assert [one.pid for one in processes(tmp_path)] != [first.pid]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "ended (exit status -9): starting it again" in errors[0].getMessage()


async def test_tracker_that_can_not_be_started_again_yet_is_tried_until_it_can(
    tmp_path, http, caplog
):
    data = find_places(tmp_path, "").tracker
    async with beside(tmp_path) as url:
        (first,) = processes(tmp_path)
        data.rename(tmp_path / "aside")
        data.write_text("in the way")
        with caplog.at_level(logging.INFO, "dreamer.daemon.embedded_tracker"):
            os.kill(first.pid, signal.SIGKILL)
            await said(caplog, "can't be started again: the embedded tracker did not start")
            data.unlink()
            (tmp_path / "aside").rename(data)
            await said(caplog, f"back at {url}")
        assert await healthy(http, url)


async def test_tracker_ends_with_its_node(tmp_path, http):
    async with beside(tmp_path) as url:
        (process,) = processes(tmp_path)
    assert not process.is_running()
    with pytest.raises(aiohttp.ClientError):
        await http.get(f"{url}/health")


async def test_tracker_that_can_not_start_is_a_clear_error(tmp_path):
    async with beside(tmp_path) as url:
        taken = url.removeprefix("http://")
        with pytest.raises(LocalError, match="did not start"):
            async with beside(tmp_path / "other", listen=taken):
                pass
    assert processes(tmp_path / "other") == []


async def test_tracker_that_says_nothing_in_time_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr("dreamer.daemon.embedded_tracker.TRACKER_START_TIMEOUT_S", 0.01)
    with pytest.raises(LocalError, match="did not start"):
        async with beside(tmp_path):
            pass
    assert processes(tmp_path) == []


async def test_the_nodes_settings_reach_its_tracker(tmp_path, http):
    rooms, names = ("ab" * 32, "cd" * 32), ("tracker.lab:8470",)
    settings = TrackerSection(listen="127.0.0.1:0", rooms=rooms, names=names)
    async with embedded_tracker(settings, find_places(tmp_path, "")) as url:
        assert await healthy(http, url)
        (process,) = processes(tmp_path)
        words = process.cmdline()
        assert words[words.index("--rooms") + 1] == ",".join(rooms)
        assert words[words.index("--names") + 1] == ",".join(names)


async def test_what_the_node_is_told_to_lend_reaches_its_tracker(tmp_path, capfd) -> None:
    places = find_places(tmp_path, "")
    wrong = {
        "turn_secret_file": TrackerSection(listen="127.0.0.1:0", turn_urls=("turn:h",)),
        "a room in origins": TrackerSection(listen="127.0.0.1:0", origins=TableText('{"x": {}}')),
    }
    for words, settings in wrong.items():
        with pytest.raises(LocalError, match="see its message above"):
            async with embedded_tracker(settings, places):
                pytest.fail("it started")
        assert words in capfd.readouterr().err
