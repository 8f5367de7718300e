"""An rsync daemon and a client that copies one file from it, whole, without compression.

rsync encrypts nothing over ``rsync://`` and checks what it wrote against the sender's hash.
"""

from __future__ import annotations

import shutil
import signal
import socket
import time
from pathlib import Path

from dreamer.simulations.bench.contenders.ends import WAIT_S, MissingError, Run, started, usage
from dreamer.simulations.loopback import free_port

POLL_S = 0.01


class RsyncDaemon:
    """The contender."""

    name = "rsync daemon"

    def run(self, source: Path, scratch: Path) -> Run:
        """Move a file.

        Raises:
            MissingError: rsync is not installed.
        """
        program = shutil.which("rsync")
        if program is None:
            raise MissingError("rsync is not installed (Debian package rsync)")
        port = free_port()
        configuration = scratch / "rsyncd.conf"
        configuration.write_text(
            f"use chroot = no\n[bench]\npath = {source.parent}\nread only = yes\n"
        )
        listen = ["--no-detach", "--address=127.0.0.1", f"--port={port}"]
        with started([program, "--daemon", *listen, f"--config={configuration}"]) as giver:
            _await_port(port)
            url = f"rsync://127.0.0.1:{port}/bench/{source.name}"
            begun = time.monotonic()
            taking = [program, "--whole-file", "--inplace", "--fsync", url, str(scratch / "target")]
            with started(taking) as taker:
                taken = usage(taker)
            seconds = time.monotonic() - begun
            if taker.returncode:
                raise RuntimeError(f"rsync ended with status {taker.returncode}")
            giver.send_signal(signal.SIGTERM)
            return Run(seconds, usage(giver), taken)


def _await_port(port: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(POLL_S)
        else:
            return
    raise RuntimeError(f"nothing listens on port {port}")
