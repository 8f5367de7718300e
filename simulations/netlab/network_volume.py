"""A volume that several hosts mount over the network: GlusterFS, by its server and its FUSE client.

Both are plain processes that are given their graphs of translators as files ("volfiles"), as
glusterd would write them: no management daemon runs and nothing is kept below /var. The client's
graph has none of the performance translators, whose caches last a second; but its kernel remembers
names and attributes for half a minute, as NFS clients do, and not for one second as by default.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from dreamer.simulations.loopback import Node, Process, until
from dreamer.simulations.netlab.iproute import LabError, ip
from dreamer.simulations.netlab.lab import Host

GLUSTER_PORT = 24007
MOUNT_TIMEOUT_S = 20.0
SFTP_SERVER = "/usr/lib/openssh/sftp-server"
REMEMBERED_S = 30
# A client that is silent for so long has lost its locks; without it TCP gives up after minutes.
SILENCE_TIMEOUT_S = 5

_LOCKS = """
volume locks
  type features/locks
  subvolumes disk
end-volume
"""
_SERVER = """
volume disk
  type storage/posix
  option directory {place}
end-volume
{locks}
volume brick
  type performance/io-threads
  subvolumes {below}
end-volume
volume server
  type protocol/server
  option transport-type tcp
  option transport.socket.bind-address {address}
  option transport.socket.listen-port {port}
  option transport.tcp-user-timeout {silence_s}
  option transport.socket.keepalive-time {silence_s}
  option transport.socket.keepalive-interval 1
  option transport.socket.keepalive-count 3
  option auth.addr.brick.allow *
  subvolumes brick
end-volume
"""
_CLIENT = """
volume remote
  type protocol/client
  option transport-type tcp
  option remote-host {address}
  option remote-port {port}
  option remote-subvolume brick
  option ping-timeout {silence_s}
end-volume
"""


def missing() -> str | None:
    """Return why no volume can be mounted here, or None when one can; root may lack it, too."""
    if os.access("/dev/fuse", os.R_OK | os.W_OK):
        return None
    return "this machine has no /dev/fuse, by which volumes are mounted"


class VolumeServer:
    """Exports the directory ``place`` from a host; ``locks`` false leaves out what keeps locks."""

    def __init__(self, host: Host, place: Path, *, locks: bool = True) -> None:
        self.host = host
        self.place = place
        place.mkdir(parents=True)
        facts = {"address": host.address, "port": GLUSTER_PORT, "silence_s": SILENCE_TIMEOUT_S}
        below = {"locks": _LOCKS, "below": "locks"} if locks else {"locks": "", "below": "disk"}
        served = place.with_name(f"{place.name}-server.vol")
        served.write_text(_SERVER.format(place=place, **below, **facts))
        self.client = place.with_name(f"{place.name}-client.vol")
        self.client.write_text(_CLIENT.format(**facts))
        self.process = _gluster("glusterfsd", host.within, served, place)

    def start(self) -> None:
        """Start it; returns when it accepts clients."""
        # It says nothing when it is ready: who listens there is seen in the namespace itself.
        self.process.start("")
        listening = ("ss", "--no-header", "--listening", "--tcp", f"sport = :{GLUSTER_PORT}")
        self._until(lambda: self.host.run(*listening).strip() != "", "the volume's server")

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()

    def _until(self, happened: Callable[[], bool], what: str) -> None:
        def there() -> bool:
            if not self.process.running:
                raise LabError(f"glusterfsd ended:\n{self.process.log.read_text()[-2000:]}")
            return happened()

        until(there, what, MOUNT_TIMEOUT_S)


class Machine:
    """A host with a name and mounts of its own; what runs behind ``within`` sees them."""

    def __init__(self, host: Host, name: str, scratch: Path) -> None:
        self.host = host
        self.name = name
        self._scratch = scratch / name
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._clients: list[Process] = []
        # Held open by one process that does nothing: with the last one, its mounts go, too.
        own = ("unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c")
        script = f"hostname {name} && echo separate && exec sleep infinity"
        self._holder = Process([*host.within, *own, script], self._scratch / "holder.log")

    @property
    def within(self) -> tuple[str, ...]:
        """What to put before a command line; nsenter replaces itself, so the process id stays."""
        return ("nsenter", f"--target={self._holder.pid}", "--net", "--mount", "--uts")

    def seen(self, path: Path) -> Path:
        """Return where this process finds what that machine has at ``path``."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def start(self) -> None:
        """Start the machine, with nothing mounted."""
        self._holder.start("separate")

    def mount(self, server: VolumeServer, place: Path) -> None:
        """Mount the volume at ``place``, which is made if it isn't there."""
        place.mkdir(parents=True, exist_ok=True)
        beside = self._scratch / "mount"
        memory = [f"--{what}-timeout={REMEMBERED_S}" for what in ("attribute", "entry")]
        # A list of names would bring the attributes, too, as it does only sometimes on NFS.
        argv = (*memory, "--use-readdirp=no", str(place))
        self._mount(_gluster("glusterfs", self.within, server.client, beside, *argv), place)

    def mount_by_sftp(self, exported: Path, place: Path) -> None:
        """Mount a directory by sshfs, which keeps locks on each host for itself.

        In place of an SSH connection it has an SFTP server of its own, which changes no lock.
        """
        place.mkdir(parents=True, exist_ok=True)
        # sshfs asks for a host and its subsystem; what it is given here asks nobody.
        connection = self._scratch / "connection"
        connection.write_text(f"#!/bin/sh\nexec {SFTP_SERVER}\n")
        connection.chmod(0o700)
        argv = ["sshfs", "-f", "-o", f"ssh_command={connection}", f"anyone:{exported}", str(place)]
        self._mount(Process([*self.within, *argv], self._scratch / "sshfs.log"), place)

    def _mount(self, client: Process, place: Path) -> None:
        client.start("")
        self._clients.append(client)
        mounts = Path(f"/proc/{self._holder.pid}/mountinfo")
        until(lambda: f" {place} " in mounts.read_text(), f"a mount at {place}", MOUNT_TIMEOUT_S)

    def node(self, home: Path, env: Mapping[str, str]) -> Node:
        """Return a ``dreamerd`` that will run there; its commands work from here."""
        node = Node(home, env=env)
        node.process.argv[:0] = self.within
        return node

    def lose_power(self) -> None:
        """End all that runs there at once, and let nobody hear of it: no packet leaves any more."""
        self.host.plug.silence()
        self.kill()

    def kill(self) -> None:
        """End all that runs there; what is mounted goes with it."""
        for pid in ip("netns", "pids", self.host.space.name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for process in (*self._clients, self._holder):
            process.kill()


def _gluster(
    name: str, within: tuple[str, ...], volfile: Path, beside: Path, *mount: str
) -> Process:
    binary = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if binary is None:
        raise LabError(f"{name} is missing: install glusterfs-server")
    log = beside.with_name(f"{beside.name}-{name}.log")
    # Its own log, apart from what it says: it opens that by itself, with absolute paths only.
    own = (f"--log-file={log}", f"--pid-file={log}.pid", f"--volfile={volfile}")
    argv = [*within, binary, "--no-daemon", *own, *mount]
    return Process(argv, log.with_suffix(".out"))
