"""Reads the facts that say which kind of worker a node is: its environment, its home's disk."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dreamer.daemon.worker.kind import Facts

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MOUNTINFO = Path("/proc/self/mountinfo")

# The kubelet keeps the volumes of a pod below such a directory of the host.
_EMPTY_DIR = "/volumes/kubernetes.io~empty-dir/"
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo: what of a file system is mounted where (proc(5))."""

    root: str
    point: Path
    fs_type: str


def read_facts(
    home: Path,
    environ: Mapping[str, str],
    mountinfo: Path = MOUNTINFO,
    service_account: Path = SERVICE_ACCOUNT,
) -> Facts:
    """Return the facts; the home is made if it can be, as the node is about to use it."""
    writable = can_write(home)
    mount = _mount_of(home, mountinfo)
    return Facts(
        cluster=_cluster(environ, service_account),
        writable=writable,
        fs_type=mount.fs_type if mount else "",
        empty_dir=mount is not None and _EMPTY_DIR in f"{mount.root}/",
    )


def can_write(directory: Path) -> bool:
    """Return whether a file can be made in a directory, which is made if it isn't there."""
    # Tried, not asked for: access(2) says yes to root where the file system says no.
    trial = directory / f".dreamer-{secrets.token_hex(4)}"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        trial.touch(mode=0o600, exist_ok=False)
        trial.unlink()
    except OSError:
        return False
    return True


def parse_mountinfo(text: str) -> list[Mount]:
    """Return the mounts, in their order; lines of another form are passed over."""
    found = []
    for line in text.splitlines():
        fields, dash, described = line.partition(" - ")
        words, kind = fields.split(" "), described.split(" ")
        if dash and len(words) > 5:
            found.append(Mount(_plain(words[3]), Path(_plain(words[4])), kind[0]))
    return found


def _plain(word: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), word)


def _mount_of(path: Path, mountinfo: Path) -> Mount | None:
    try:
        mounts = parse_mountinfo(mountinfo.read_text(encoding="utf-8", errors="replace"))
        whole = path.resolve()
    except OSError:
        return None
    around = [one for one in mounts if whole.is_relative_to(one.point)]
    # The deepest holds the path; of several at one point the last covers the others.
    return max(reversed(around), key=lambda one: len(one.point.parts), default=None)


def _cluster(environ: Mapping[str, str], service_account: Path) -> str:
    # Run:ai first: its workloads are pods, too.
    if any(name.startswith("RUNAI_") for name in environ):
        return "Run:ai"
    if environ.get("KUBERNETES_SERVICE_HOST") or service_account.is_dir():
        return "Kubernetes"
    return ""
