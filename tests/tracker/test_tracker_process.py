"""The command itself, as a process."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

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
    run = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=20)
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
            assert (await idle.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
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
    run = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=20)
    assert run.returncode == 0
    for option in ("--listen", "--data", "--config", "DREAMER_TRACKER_DATA"):
        assert option in run.stdout


def test_missing_data_is_one_clear_line():
    error = fails("--listen", "127.0.0.1:0")
    assert error == (
        "dreamer-tracker: where to keep the store? give --data DIR or set DREAMER_TRACKER_DATA\n"
    )


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
