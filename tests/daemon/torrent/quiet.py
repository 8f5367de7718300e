"""Run in a network namespace of its own: counts what leaves the machine, ours first, then stock's.

Prints two numbers: IPv4 packets sent while our torrent process seeded a model for ``QUIET_S``, and
packets sent by a libtorrent session with its default settings until its first.
"""

import asyncio
import os
import subprocess
import tempfile
import time
from pathlib import Path

import libtorrent as lt

from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.torrent.client import Torrents
from dreamer.daemon.torrent.vocabulary import AddTorrent, Configure

QUIET_S = 4.0
LINES = (
    "ip link set lo up",
    "ip link add out0 type veth peer name far0",
    "sysctl -qw net.ipv6.conf.out0.disable_ipv6=1 net.ipv6.conf.far0.disable_ipv6=1",
    "ip addr add 10.9.9.9/24 dev out0",
    "ip link set out0 up",
    "ip link set far0 up",
    "ip route add default via 10.9.9.1",
    "ip neigh add 10.9.9.1 lladdr 02:00:00:00:00:01 dev out0",
)
SENT = Path("/sys/class/net/out0/statistics/tx_packets")


def sent() -> int:
    # sysfs shows the namespace that it was mounted in.
    text = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"mount -t sysfs none /sys && cat {SENT}"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return int(text)


def torrent(folder: Path) -> bytes:
    (folder / "model").write_bytes(b"x" * 100_000)
    storage = lt.file_storage()
    storage.add_file("model", 100_000)
    made = lt.create_torrent(storage, 16 * 1024)
    lt.set_piece_hashes(made, str(folder))
    return lt.bencode(made.generate())


async def ours(metadata: bytes, folder: Path) -> int:
    tasks = TaskSet()
    torrents = Torrents(Configure("0.0.0.0:0", "Dreamer/test", False, False, ""), tasks)
    paths = [str(folder / "model"), ""]
    torrents.add(AddTorrent(1, metadata, [], str(folder), paths, 7, b""), lambda event: None)
    ends = time.monotonic() + QUIET_S
    while time.monotonic() < ends or not torrents.port:
        await asyncio.sleep(0.05)
    counted = sent()
    await torrents.close()
    await tasks.close()
    return counted


def theirs(metadata: bytes, folder: Path) -> int:
    before = sent()
    session = lt.session({"listen_interfaces": "0.0.0.0:0"})
    wanted = lt.load_torrent_buffer(metadata)
    wanted.save_path = str(folder)
    session.add_torrent(wanted)
    ends = time.monotonic() + 20.0
    while sent() == before and time.monotonic() < ends:
        session.wait_for_alert(50)
        session.pop_alerts()
    return sent() - before


def main() -> None:
    for line in LINES:
        subprocess.run(line.split(), check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        metadata = torrent(folder)
        print(asyncio.run(ours(metadata, folder)), theirs(metadata, folder), flush=True)
    # The stock session would wait for servers that it can't reach.
    os._exit(0)


main()
