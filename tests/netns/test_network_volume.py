"""Several hosts, one volume over the network: GlusterFS, mounted by each through its own client.

Each host has its own network, mounts and host name, so that nothing passes between them but what
the volume's server tells. Names and attributes are remembered for half a minute; locks are the
server's.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from disk_use import allocated

from dreamer.daemon.client import Dreamer
from dreamer.daemon.store import locks
from dreamer.daemon.store.copying import preallocate
from dreamer.daemon.store.locks import FileLock
from dreamer.daemon.store.places import Places
from dreamer.daemon.store.quota import Quota, StoreLimits
from dreamer.simulations.loopback import LoopbackError, Node, until
from dreamer.simulations.netlab.internet import Internet
from dreamer.simulations.netlab.network_volume import SFTP_SERVER, Machine, VolumeServer, missing

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.timeout(240),
]

MIB = 2**20
GIB = 2**30
BLOCK = MIB
MODEL = 32 * MIB
WAIT_S = 60.0
HELD_S = 0.002
# So slow that a pull is met half-way on a busy machine, too: MODEL takes over ten seconds.
KEEPER_MBIT = 25.0
# Where nothing has to be met half-way.
HASTE_MBIT = 100.0


class Site:
    """Hosts with one volume, and a keeper beside them that has models and none of the volume."""

    def __init__(self, net: Internet, stack: ExitStack) -> None:
        self.net = net
        self.root = net.scratch
        self.place = self.root / "mnt"
        self._stack = stack
        self.tracker = net.tracker()
        self.server = VolumeServer(net.host("volume"), self.root / "brick")
        stack.callback(self.server.kill)
        self.server.start()
        host = net.host("keeper")
        self.line = host.plug
        self.line.shape(KEEPER_MBIT)
        self.keeper = Node(self.root / "keeper")
        self.keeper.process.argv[:0] = host.within
        stack.enter_context(self.keeper)
        Dreamer(self.keeper.home).create_room("lab", [self.tracker.url])

    def machine(self, name: str, server: VolumeServer | None = None) -> Machine:
        """Start a host that has the volume mounted at ``place``."""
        machine = self.bare(name)
        machine.mount(server or self.server, self.place)
        return machine

    def bare(self, name: str) -> Machine:
        """Start a host that has nothing mounted."""
        machine = Machine(self.net.host(name), name, self.root / "machines")
        self._stack.callback(machine.kill)
        machine.start()
        return machine

    def node(self, machine: Machine, name: str, models: str, **settings: str) -> Node:
        """Return a node of that machine, with a home of its own and its models on the volume."""
        env = {"MODELS_DIR": str(self.place / models), "DREAMER_STORE_GRACE_S": "0", **settings}
        return machine.node(self.root / name, env)

    def member(self, machine: Machine, name: str, models: str, **settings: str) -> Node:
        """Start such a node as a member of the room."""
        node = self._stack.enter_context(self.node(machine, name, models, **settings))
        Dreamer(node.home).join_room(Dreamer(self.keeper.home).invite("lab"))
        return node

    def members(self, models: str, *names: str) -> dict[str, tuple[Machine, Node]]:
        """Start several machines, each with a member, at the same time."""

        def start(name: str) -> tuple[Machine, Node]:
            machine = self.machine(name)
            return machine, self.member(machine, f"{name}-1", models)

        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(start, names), strict=True))

    def push(self, name: str, size: int) -> Path:
        """Have the keeper publish a model of that size; return the directory it was made of."""
        source = self.root / "sources" / name
        source.mkdir(parents=True, exist_ok=True)
        seed = os.urandom(MIB - 4)
        with (source / "weights.bin").open("wb") as file:
            for done in range(0, size, MIB):
                file.write((struct.pack("<I", done // MIB) + seed)[: size - done])
        self.keeper.dreamer("push", str(source), "--room", "lab", "--alias", name)
        return source


@pytest.fixture(scope="module")
def site(networks, program, tmp_path_factory):
    for name in ("glusterfs", "glusterfsd", "sshfs", SFTP_SERVER, "unshare", "nsenter", "ss"):
        program(name)
    if (reason := missing()) is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    # The paths of Unix sockets must be short.
    with Internet(tmp_path_factory.mktemp("nv")) as net, ExitStack() as stack:
        yield Site(net, stack)


@pytest.fixture(scope="module")
def large(site, unseen):
    # ``unseen`` only comes first: what is found out there takes a while.
    return site.push("large", MODEL)


@pytest.fixture(scope="module")
def team(site):
    """Machines by name, each with a node that keeps its models in one directory of the volume."""
    return site.members("models", "one", "two", "three")


@pytest.fixture(scope="module")
def unseen(site):
    """Two nodes on one directory by way of sshfs; from here on they show that they live."""
    exported = site.root / "exported"
    exported.mkdir()

    def start(name: str) -> tuple[Machine, Node]:
        machine = site.bare(name)
        machine.mount_by_sftp(exported, site.place)
        return machine, site.member(machine, f"{name}-1", "unseen")

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(start, ("left", "right")))


def progress(node: Node) -> dict:
    pulls = Dreamer(node.home).status()["pulls"]
    return pulls[0]["progress"] if pulls else {"phase": "", "note": "", "done": 0}


def finish(pull: subprocess.Popen[str]) -> tuple[dict, str]:
    out, err = pull.communicate(timeout=WAIT_S)
    assert pull.returncode == 0, out + err
    return json.loads(out), err


def moved(receipt: dict) -> int:
    return sum(size for lane, size in receipt["bytes"].items() if lane != "cache")


def weights(machine: Machine, receipt: dict) -> bytes:
    """Return what a user on that machine finds where the pull said."""
    return machine.seen(Path(receipt["path"]) / "weights.bin").read_bytes()


def pull_all(team, ref: str) -> dict[str, subprocess.Popen[str]]:
    return {
        name: node.begin("pull", ref, "--room", "lab", "--json") for name, (_, node) in team.items()
    }


def test_three_hosts_fetch_a_model_once_and_learn_who_does(large, team):
    came = {name: finish(pull) for name, pull in pull_all(team, "large").items()}
    sizes = {name: moved(receipt) for name, (receipt, _) in came.items()}
    assert sorted(sizes.values()) == [0, 0, MODEL]
    (fetched,) = (name for name, size in sizes.items() if size)
    pid = team[fetched][1].process.pid
    for name, (receipt, said) in came.items():
        # By the name of its own host, which is not this one's.
        assert (f"waiting for process {pid} on host {fetched}" in said) == (name != fetched), said
        assert weights(team[name][0], receipt) == (large / "weights.bin").read_bytes()


def test_host_that_loses_power_is_followed_by_who_waited(site):
    source = site.push("second", MODEL)
    # Machines of its own, with names of this run, since one of them is lost.
    run = os.urandom(2).hex()
    team = site.members(f"powered-{run}", *(f"{name}-{run}" for name in ("four", "five", "six")))
    pulls = pull_all(team, "second")
    found: list[str] = []

    def at_a_quarter() -> bool:
        found.extend(name for name, (_, it) in team.items() if progress(it)["done"] > MODEL // 4)
        return found != []

    until(at_a_quarter, "a quarter", WAIT_S)
    (first,) = found
    machine, node = team.pop(first)
    others = [other for _, other in team.values()]
    until(
        lambda: all("waiting for" in progress(other)["note"] for other in others), "waits", WAIT_S
    )
    verified = progress(node)["done"]
    machine.lose_power()
    lost_at = time.monotonic()
    with pulls.pop(first) as pull:
        pull.kill()
    came = {name: finish(pull)[0] for name, pull in pulls.items()}
    *nothing, again = sorted(map(moved, came.values()))
    took_s = time.monotonic() - lost_at
    print(f"{verified} verified, {again} fetched, {took_s:.1f} s after the loss")
    assert sum(nothing) == 0
    # One goes on from what was there, and the last one waits for that. A block may have come to
    # the first host in the moment of its end without being written.
    assert again <= MODEL - verified + BLOCK
    for name, receipt in came.items():
        assert weights(team[name][0], receipt) == (source / "weights.bin").read_bytes()


def test_volume_with_the_model_starts_a_new_home_and_damage_is_found_by_its_hash(site, large, team):
    name, (machine, node) = next(iter(team.items()))
    (path,) = {model.path for model in Dreamer(node.home).models() if model.name == "large"}
    again = site.member(machine, f"{name}-2", "models").dreamer("pull", "large", "--room", "lab")
    assert (moved(again), again["path"]) == (0, path)
    # Damage on the server's own disk that neither size nor time of change tells of.
    damaged = site.server.place / "models" / Path(path).name / "weights.bin"
    before = damaged.stat()
    with damaged.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(bytes(MIB))
    os.utime(damaged, ns=(before.st_atime_ns, before.st_mtime_ns))
    # On a host that has not read it yet: what a kernel keeps in memory was not damaged.
    ((late, joined),) = site.members("models", "late").values()
    mended = joined.dreamer("pull", "large", "--room", "lab")
    assert moved(mended) == BLOCK
    assert weights(late, mended) == (large / "weights.bin").read_bytes()


def on_two_hosts(site, team, name: str) -> list[Path]:
    """Return where this process finds a new directory of the volume: by two hosts' mounts."""
    made = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=site.server.place))
    return [machine.seen(site.place / made.name) for machine, _ in list(team.values())[:2]]


def test_lock_excludes_other_hosts_though_its_file_is_removed_each_time(site, team):
    rounds, holding, both = 150, [], []

    ended = [0, 0]

    def take_and_remove(number: int, place: Path) -> None:
        while ended[number] < rounds:
            lock = FileLock.take(place / "lock", exclusive=True)
            if lock is None:
                continue
            holding.append(number)
            for held_s in (HELD_S, 0.0):
                if len(holding) > 1:
                    both.append(tuple(holding))
                # Nobody is waited for: it lets the other thread run while this one holds the lock.
                time.sleep(held_s)
            ended[number] += 1
            holding.remove(number)
            lock.discard()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(take_and_remove, (0, 1), on_two_hosts(site, team, "locked")))
    assert both == []
    assert ended == [rounds, rounds]


def test_lock_on_a_file_that_went_before_it_was_locked_is_none(site, team, monkeypatch):
    here, there = (place / "lock" for place in on_two_hosts(site, team, "went"))
    # Who made it remembers it as empty.
    there.touch()
    held = [FileLock.take(here, exclusive=True)]
    lock_it = locks._try

    def late(fd: int, path: Path, exclusive: bool) -> bool:
        # Opened there while it was held here, and locked when it is gone.
        while held:
            held.pop().discard()
        return lock_it(fd, path, exclusive)

    monkeypatch.setattr(locks, "_try", late)
    taken = FileLock.take(there, exclusive=True)
    assert taken is not None
    assert FileLock.take(here, exclusive=True) is None
    taken.close()


def test_what_another_host_allocates_is_counted_at_once(site, team):
    here, there = (Places(place) for place in on_two_hosts(site, team, "counted"))
    for places in (here, there):
        places.make()
    quota = Quota(there, StoreLimits(quota_bytes=GIB))
    partial = here.partial / "model"
    partial.mkdir()
    with (partial / "file").open("xb") as file:
        # Remembered there as empty, from here on.
        assert quota.used_bytes() == 0
        preallocate(file.fileno(), 4 * MIB)
    assert quota.used_bytes() >= 4 * MIB


def test_two_hosts_together_stay_below_the_quota_and_take_nothing_in_use(site, team):
    models, quota_bytes = "quota", 44 * MIB
    names = [f"q{number}" for number in range(4)]
    for name in names:
        site.push(name, 20 * MIB)
    settings = {"DREAMER_STORE_QUOTA_GIB": str(quota_bytes / GIB)}
    nodes = [
        site.member(machine, f"{name}-q", models, **settings)
        for name, (machine, _) in list(team.items())[:2]
    ]
    site.line.shape(HASTE_MBIT)
    seen: list[int] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(0.02):
            seen.append(allocated(site.server.place / models))

    def collect() -> None:
        # By one host again and again, while the other pulls: nothing of what that is at may go.
        while not ended.wait(0.2):
            Dreamer(nodes[0].home).caches.collect(older_than_s=0, remove=True)

    with ThreadPoolExecutor(2) as beside:
        working = [beside.submit(work) for work in (sample, collect)]
        try:
            pulls = [
                nodes[number % 2].begin("pull", name, "--room", "lab", "--json")
                for number, name in enumerate(names)
            ]
            receipts = [finish(pull)[0] for pull in pulls]
        finally:
            ended.set()
            site.line.shape(KEEPER_MBIT)
        for work in working:
            work.result()
    print(f"{len(seen)} samples, at most {max(seen)} of {quota_bytes}")
    assert [moved(receipt) for receipt in receipts] == [20 * MIB] * 4
    assert 40 * MIB <= max(seen) <= quota_bytes
    whole = [m for m in nodes[1].dreamer("store", "ls")["models"] if m["whole"]]
    assert len(whole) == 2


def test_volume_without_locks_is_refused_with_what_to_do(site, tmp_path):
    server = VolumeServer(site.net.host("unlocked"), tmp_path / "brick", locks=False)
    server.start()
    try:
        machine = site.machine("nine", server)
        node = site.node(machine, "nine-1", "models")
        with pytest.raises(LoopbackError) as refused:
            node.start()
        assert "has no locks" in str(refused.value)
        assert "choose another MODELS_DIR" in str(refused.value)
        assert "Traceback" not in str(refused.value)
        machine.kill()
    finally:
        server.kill()


def test_hosts_that_do_not_see_each_others_locks_find_out_and_change_nothing(site, large, unseen):
    for (machine, node), (other, its) in zip(unseen, unseen[::-1], strict=True):
        said = node.process.log.read_text
        assert "fuse.sshfs keeps locks on each host for itself" in said()
        found = f"process {its.process.pid} on host {other.name} uses {site.place / 'unseen'} too"
        until(lambda said=said, found=found: found in said(), f"{machine.name} seeing it", WAIT_S)
        answer = node.try_dreamer("pull", "large", "--room", "lab")
        assert answer.status != 0
        assert "neither sees the other's locks" in answer.err
        assert "a MODELS_DIR of its own" in answer.err
