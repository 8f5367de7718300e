"""Which file system a volume is, and what is known of its locks: do other hosts see them?

A file system can say that it has no locks, and then ``locks`` refuses it. One that keeps them on
each host for itself says nothing: it can be known by its name and its options, and else by its
deeds (``reach.py``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")

_OTHER_HOSTS_TOO = frozenset(
    [
        *("9p", "afs", "beegfs", "ceph", "cifs", "fuse", "gfs2", "gpfs", "lustre", "nfs", "nfs4"),
        *("ocfs2", "orangefs", "panfs", "smb3", "virtiofs", "wekafs"),
    ]
)
"""Kinds that other hosts may have mounted at the same time; ``fuse.NAME`` besides."""

_LOCKS_STAY_HERE = frozenset(
    [
        *("fuse.blobfuse", "fuse.blobfuse2", "fuse.gcsfuse", "fuse.geesefs", "fuse.goofys"),
        *("fuse.mount-s3", "fuse.mountpoint-s3", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
        "virtiofs",
    ]
)
"""Kinds that answer every lock by themselves and tell no server (virtiofs: unless told to)."""

_OPTIONS_THAT_KEEP_LOCKS_HERE = {
    # nfs(5): 'nolock' shows as local_lock=all.
    "nfs": ("nolock", "local_lock=all", "local_lock=posix"),
    "nfs4": ("local_lock=all", "local_lock=posix"),
    # mount.cifs(8): byte-range locks are not sent to the server.
    "cifs": ("nobrl", "nolock"),
    "smb3": ("nobrl", "nolock"),
    "lustre": ("localflock",),
}
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """A mounted file system: its kind (``nfs4``, ``fuse.sshfs``; empty: unknown), its options."""

    kind: str = ""
    options: tuple[str, ...] = ()

    @property
    def is_shared(self) -> bool:
        """Whether other hosts may use it at the same time."""
        return self.kind in _OTHER_HOSTS_TOO or self.kind.startswith("fuse.")

    @property
    def locks_stay_here(self) -> str:
        """Why no other host sees the locks that this one holds, in words; empty: they may."""
        if self.kind in _LOCKS_STAY_HERE:
            return f"{self.kind} keeps locks on each host for itself"
        for option in _OPTIONS_THAT_KEEP_LOCKS_HERE.get(self.kind, ()):
            if option in self.options:
                return f"{self.kind} is mounted with {option!r}, which keeps locks on this host"
        return ""


def mount_of(path: Path) -> Mount:
    """Return the file system that ``path`` is on, as far as this system tells."""
    try:
        return parse(_MOUNTS.read_text(errors="surrogateescape"), path.resolve())
    except OSError:
        # No Linux: what can't be seen is found out by its deeds.
        return Mount()


def parse(mountinfo: str, path: Path) -> Mount:
    """Return the mount that holds ``path``, out of proc_pid_mountinfo(5)."""
    best, found = -1, Mount()
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if len(fields) < 6 or len(rest) < 3:
            continue
        place = Path(_ESCAPED.sub(lambda octal: chr(int(octal.group(1), 8)), fields[4]))
        # The last of those at one place covers the others.
        if path.is_relative_to(place) and len(place.parts) >= best:
            options = (*fields[5].split(","), *rest[2].split(","))
            best, found = len(place.parts), Mount(rest[0], options)
    return found
