"""Runs ``ip``, ``nft``, ``tc`` and whatever else belongs in a namespace; says what failed."""

from __future__ import annotations

import os
import shutil
import subprocess

COMMAND_TIMEOUT_S = 60.0

NEEDED = {"ip": "iproute2", "nft": "nftables", "tc": "iproute2"}
"""Program: the Debian package that has it."""


class LabError(RuntimeError):
    """The network could not be built as asked."""


def missing() -> str | None:
    """Return why no network can be built here, or None when one can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program, package in NEEDED.items():
        if shutil.which(program) is None:
            return f"{program} is missing: install {package}"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "this machine has no /dev/net/tun, which lossy and slow wires need"
    return None


def command(*argv: str, stdin: str | None = None) -> str:
    """Run a program to its end; return what it said.

    Raises:
        LabError: it failed, or took longer than COMMAND_TIMEOUT_S.
    """
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(argv)} took over {COMMAND_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def ip(*args: str) -> str:
    """Run ``ip`` of iproute2."""
    return command("ip", *args)
