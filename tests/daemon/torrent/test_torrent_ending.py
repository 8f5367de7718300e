"""A torrent process ends when its daemon is gone, whatever libtorrent does."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

HANGS = """
import ctypes, sys
from dreamer.daemon.torrent import process

async def stuck(self):
    # As a destructor of libtorrent's would: with the interpreter held.
    ctypes.PyDLL(None).sleep(60)

process.TorrentProcess._stop = stuck
process.main(int(sys.argv[1]))
"""


def test_process_that_is_stuck_in_libtorrent_ends_with_its_daemon() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        number = theirs.fileno()
        command = [sys.executable, "-c", HANGS, str(number)]
        child = subprocess.Popen(command, pass_fds=(number,))
    try:
        assert child.wait(timeout=20) == -signal.SIGALRM
    finally:
        child.kill()
        child.wait()
