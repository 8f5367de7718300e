"""The command itself, as a process."""

from __future__ import annotations

import re
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiohttp
import pytest

from dreamer.tracker import descriptors

pytestmark = pytest.mark.e2e

COMMAND = [sys.executable, "-m", "dreamer.tracker.main"]


@contextmanager
def started(*arguments: str, env: dict[str, str] | None = None):
    """Yield a tracker process and the URL that it printed; it is gone afterwards."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().rstrip("\n")
    finally:
        process.kill()
        process.communicate()


def fails(*arguments: str) -> str:
    run = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
    assert run.returncode != 0
    assert run.stdout == ""
    return run.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_tracker_prints_its_url_serves_and_stops_on_a_signal(tmp_path, number):
    with started("--listen", "127.0.0.1:0", "--data", str(tmp_path / "d")) as (process, url):
        assert url.startswith("http://127.0.0.1:")
        async with aiohttp.ClientSession() as http:
            async with http.get(url + "/health") as response:
                assert response.status == 200
            idle = await http.ws_connect(url + "/announce")
            process.send_signal(number)
            began = time.monotonic()
            assert (await idle.receive(timeout=30)).type is aiohttp.WSMsgType.CLOSE
            await idle.close()
        assert process.wait(5) == 0
        assert time.monotonic() - began < 5


def test_second_tracker_on_the_same_data_and_port_says_so(tmp_path):
    data = str(tmp_path / "d")
    with started("--listen", "127.0.0.1:0", "--data", data) as (_, url):
        error = fails("--listen", "127.0.0.1:0", "--data", data)
        assert error.startswith("dreamer-tracker: another dreamer-tracker holds")
        assert error.count("\n") == 1
        listen = url.removeprefix("http://")
        error = fails("--listen", listen, "--data", str(tmp_path / "other"))
        assert "can't listen on" in error
        assert "--listen" in error


def test_settings_come_from_the_environment(tmp_path):
    env = {"DREAMER_TRACKER_LISTEN": "127.0.0.1:0", "DREAMER_TRACKER_DATA": str(tmp_path / "d")}
    with started(env=env) as (_, url):
        assert url.startswith("http://127.0.0.1:")
    assert (tmp_path / "d" / "tracker.sqlite3").exists()


def test_help_names_every_option():
    run = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0
    for option in ("--listen", "--data", "--config", "DREAMER_TRACKER_DATA"):
        assert option in run.stdout


def test_missing_data_is_one_clear_line():
    error = fails("--listen", "127.0.0.1:0")
    assert error == (
        "dreamer-tracker: where to keep the store? give --data DIR or set DREAMER_TRACKER_DATA\n"
    )


def test_limit_on_files_that_can_not_be_raised_stays(monkeypatch):
    """As on macOS, where the hard limit may be infinite, and the kernel takes no such number."""

    def refuse(_what: int, _limits: tuple[int, int]) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    descriptors.allow_all()


def test_malformed_requests_of_strangers_fill_no_log(tmp_path):
    arguments = ["--listen", "127.0.0.1:0", "--data", str(tmp_path / "d")]
    with started(*arguments) as (process, url):
        host, port = url.removeprefix("http://").split(":")
        for _ in range(3):
            with socket.create_connection((host, int(port)), timeout=30) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\nno header\r\n\r\n")
                assert b" 400 " in stranger.recv(4096)
        process.terminate()
        assert process.communicate(timeout=30)[1] == ""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_full_table_of_files_ends_nothing(tmp_path):
    """Whoever comes when there is no file left is hung up on; afterwards all is as before."""

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    arguments = [*COMMAND, "--listen", "127.0.0.1:0", "--data", str(tmp_path / "d")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, preexec_fn=few)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().rstrip("\n")
        host, port = url.removeprefix("http://").split(":")
        with ExitStack() as crowd:
            for _ in range(100):
                crowd.enter_context(socket.create_connection((host, int(port)), timeout=30))
            last = crowd.enter_context(socket.create_connection((host, int(port)), timeout=30))
            assert last.recv(1) == b""
        _becomes_healthy(url)
    finally:
        process.kill()
        process.communicate()


def _becomes_healthy(url: str) -> None:
    until = time.monotonic() + 5
    while True:
        try:
            with urllib.request.urlopen(url + "/health", timeout=30) as response:
                assert response.status == 200
                return
        except OSError:
            # Those who left are still being let go.
            assert time.monotonic() < until


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_tracker_may_open_as_many_files_as_the_system_lets_it(tmp_path):
    """The soft limit of a shell would end it at some thousand clients."""

    def low() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 512))

    arguments = [*COMMAND, "--listen", "127.0.0.1:0", "--data", str(tmp_path / "d")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, preexec_fn=low)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert re.search(r"Max open files +512 +512 ", limits)
    finally:
        process.kill()
        process.communicate()
