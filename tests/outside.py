"""Installs what the tests of other people's programs run: Debian packages and npm packages.

Usage: python tests/outside.py            (or: make outside)

Needs nothing but Python's standard library. What is there already is left alone. Debian packages
are installed only by root; npm packages go to ``.cache/npm``, without running their scripts. What
can't be installed is named, and its tests are skipped; in CI, where nothing is skipped, that is a
failure.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
WANTED = CHECKOUT / "tests" / "interop" / "package.json"
NPM = CHECKOUT / ".cache" / "npm"
STEP_TIMEOUT_S = 900.0

PACKAGE_OF = {
    "node": "nodejs",
    "npm": "npm",
    "chromium": "chromium",
    "turnserver": "coturn",
    "redis-server": "redis-server",
    "aria2c": "aria2",
    "transmission-daemon": "transmission-daemon",
    "transmission-remote": "transmission-cli",
    "rsync": "rsync",
    "ip": "iproute2",
    "tc": "iproute2",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "glusterfsd": "glusterfs-server",
    "glusterfs": "glusterfs-client",
    "sshfs": "sshfs",
    # Not on any PATH: sshd, and sshfs in our tests, start it by its place.
    "/usr/lib/openssh/sftp-server": "openssh-sftp-server",
}
"""Program: the Debian package that has it."""

POLICY = Path("/usr/sbin/policy-rc.d")


class OutsideError(Exception):
    """Something could not be installed."""


def main() -> None:
    """Install what is missing; exit 1 only in CI when something can't be."""
    missing = False
    for step in (programs, npm_packages):
        try:
            step()
        except OutsideError as error:
            missing = True
            print(f"outside: {error}; its tests will be skipped", file=sys.stderr)
    if missing and os.environ.get("CI"):
        sys.exit("outside: in CI no test may be skipped")


def programs() -> None:
    """Install the Debian packages whose programs are missing; raises OutsideError."""
    missing = (package for name, package in PACKAGE_OF.items() if _which(name) is None)
    # One package may have several of the programs.
    packages = list(dict.fromkeys(missing))
    if not packages:
        return
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise OutsideError(f"{', '.join(packages)} missing: as root, {' '.join(install)}")
    print(f"outside: installing {', '.join(packages)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "--quiet"], **quiet)
    with no_service_starts():
        run([*install, "--quiet", "-o", "DPkg::Lock::Timeout=120"], **quiet)


def _which(name: str) -> str | None:
    # Some are found by root alone, and are there all the same.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


@contextlib.contextmanager
def no_service_starts() -> Iterator[None]:
    """Keep the packages' own services down: each test starts the server that it needs."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def npm_packages() -> None:
    """Install what package.json names, unless that was done before; raises OutsideError."""
    wanted = WANTED.read_bytes()
    stamp, now = NPM / ".installed", hashlib.sha256(wanted).hexdigest()
    if stamp.is_file() and stamp.read_text() == now:
        return
    if shutil.which("npm") is None:
        raise OutsideError("npm is missing, and with it the clients that run in Node")
    print("outside: installing npm packages")
    # Begun anew, so that nothing of another version stays.
    shutil.rmtree(NPM, ignore_errors=True)
    NPM.mkdir(parents=True)
    (NPM / "package.json").write_bytes(wanted)
    quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    # The native parts arrive prebuilt, as packages of their own: no script need run.
    run(["npm", "install", "--ignore-scripts", *quiet], cwd=NPM)
    stamp.write_text(now)


def run(argv: list[str], cwd: Path = CHECKOUT, **environ: str) -> None:
    """Run a program to its end; raises OutsideError with the end of what it said."""
    try:
        subprocess.run(
            argv,
            cwd=cwd,
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
            timeout=STEP_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        raise OutsideError(f"{' '.join(argv)} failed: {error.stdout[-2000:]}") from error
    except subprocess.TimeoutExpired as error:
        raise OutsideError(f"{' '.join(argv)} took over {STEP_TIMEOUT_S:.0f} s") from error


if __name__ == "__main__":
    main()
