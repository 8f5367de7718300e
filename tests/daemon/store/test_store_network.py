"""A volume that hosts mount over the network: what they remember of it, whose locks they see."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dreamer.daemon.state import State
from dreamer.daemon.store import copying, fresh, locks, reach, space, staging
from dreamer.daemon.store.locks import FileLock
from dreamer.daemon.store.mounts import Mount, parse
from dreamer.daemon.store.store import Store
from dreamer.protocol.cache_limits import STORE_STAGING_SILENCE_S
from dreamer.protocol.errors import DiskError, LocalError
from dreamer.protocol.limits import BLOCK_BYTES, STORE_RESERVE_BYTES

MIB = BLOCK_BYTES


def ignore(done: int, total: int) -> None:
    pass


# As the kernel shows them in /proc/self/mountinfo.
MOUNTED = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
26 22 0:23 / /nfs rw,relatime - nfs4 10.99.0.2:/ rw,vers=4.2,hard,proto=tcp,local_lock=none
27 22 0:24 / /old rw,relatime - nfs server:/srv rw,vers=3,nolock,local_lock=all
28 22 0:25 / /half rw - nfs4 server:/srv rw,vers=4.0,local_lock=flock
44 22 0:40 / /gluster rw,relatime - fuse.glusterfs server:/models rw,user_id=0
45 22 0:41 / /gluster/a\040lab rw,nosuid shared:5 - fuse.sshfs me@server: rw,user_id=0
46 22 0:42 / /smb rw - cifs //server/models rw,vers=3.1.1,nobrl
47 22 0:43 / /smb rw - tmpfs none rw
48 22 0:44 / /disk rw - fuseblk /dev/sdb1 rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "is_shared", "why"),
    [
        ("/home/me", "ext4", False, ""),
        ("/nfs/models", "nfs4", True, ""),
        ("/nfsx", "ext4", False, ""),
        ("/old/models", "nfs", True, "nolock"),
        # Our locks are those of fcntl, which this option leaves to the server.
        ("/half", "nfs4", True, ""),
        ("/gluster", "fuse.glusterfs", True, ""),
        ("/gluster/a lab/x", "fuse.sshfs", True, "fuse.sshfs keeps locks"),
        # What is mounted last covers what was there.
        ("/smb", "tmpfs", False, ""),
        ("/disk", "fuseblk", False, ""),
    ],
)
def test_mount_tells_whether_other_hosts_see_its_locks(
    path: str, kind: str, is_shared: bool, why: str
) -> None:
    mount = parse(MOUNTED, Path(path))
    assert (mount.kind, mount.is_shared) == (kind, is_shared)
    assert why in mount.locks_stay_here
    assert bool(mount.locks_stay_here) == bool(why)


def test_lock_file_that_was_removed_locks_nothing_though_its_name_is_remembered(
    tmp_path: Path,
) -> None:
    held = FileLock.take(tmp_path / "lock", exclusive=True)
    assert held is not None
    # As another host may believe for a second, or thirty: the name is there, and is that very file.
    remembered = tmp_path / "remembered"
    remembered.hardlink_to(tmp_path / "lock")
    held.discard()
    assert FileLock.take(remembered, exclusive=True) is None
    assert FileLock.take(tmp_path / "lock", exclusive=True) is not None


def test_lock_file_that_two_hosts_make_in_one_moment_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, open_it, refused = tmp_path / "lock", os.open, []

    def late(place: Any, *rest: Any, **more: Any) -> int:
        if place == path and not refused:
            # As GlusterFS answers, though O_EXCL was not asked for.
            refused.append(place)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place))
        return open_it(place, *rest, **more)

    monkeypatch.setattr(os, "open", late)
    taken = FileLock.take(path, exclusive=True)
    assert taken is not None
    taken.close()
    assert refused == [path]


def test_look_at_what_is_not_there_harms_nobody(tmp_path: Path) -> None:
    fresh.look(tmp_path / "nothing", tmp_path)
    with pytest.raises(FileNotFoundError):
        fresh.lstat(tmp_path / "nothing")
    assert fresh.lstat(tmp_path) == tmp_path.lstat()


def test_file_that_can_not_be_reserved_gets_its_size_and_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, mode: int, offset: int, length: int) -> int:
        copying.ctypes.set_errno(errno.EOPNOTSUPP)
        return -1

    monkeypatch.setattr(copying, "_fallocate", refuse)
    with (tmp_path / "file").open("w+b") as file:
        copying.preallocate(file.fileno(), 8 * MIB)
        status = os.fstat(file.fileno())
        assert (status.st_size, status.st_blocks) == (8 * MIB, 0)


def test_file_that_has_no_room_is_refused_at_once(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file, pytest.raises(OSError, match=r"too large|space"):
        copying.preallocate(file.fileno(), 2**62)


def test_pulls_side_by_side_count_what_the_others_could_not_reserve(
    tmp_path: Path, elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, mode: int, offset: int, length: int) -> int:
        copying.ctypes.set_errno(errno.EOPNOTSUPP)
        return -1

    monkeypatch.setattr(copying, "_fallocate", refuse)
    monkeypatch.setattr(space, "free_bytes", lambda place: 10 * MIB + STORE_RESERVE_BYTES)
    first, other = (elsewhere({"weights": bytes([n]) * (6 * MIB)}, str(n)) for n in (1, 2))
    state = State(tmp_path / "state.db")
    store = Store(tmp_path / "volume", state)

    def begin(model: Any) -> Any:
        model.give(store)
        return store.open_download(model.manifest, model.outboard, ignore, threading.Event())

    try:
        begin(first).close()
        # Not a byte of the first one has come, but its room is spoken for.
        with pytest.raises(DiskError, match="are free"):
            begin(other)
        # It is not in its own way.
        begin(first).close()
    finally:
        store.close()
        state.close()


@pytest.fixture
def daemons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Store]]:
    """``daemons(name)`` opens one volume of a kind that hosts share, as its daemon would."""
    opened: list[tuple[Store, State]] = []

    def on_network(path: Path) -> Mount:
        return Mount("fuse.somefs", ("rw",))

    for module in (reach, staging):
        monkeypatch.setattr(module, "mount_of", on_network)

    def start(name: str) -> Store:
        state = State(tmp_path / f"{name}.db")
        opened.append((Store(tmp_path / "volume", state), state))
        return opened[-1][0]

    yield start
    for store, state in opened:
        store.close()
        state.close()


def looks(*stores: Store, times: int = 4) -> None:
    for _ in range(times):
        for store in stores:
            store.reach.look()


def test_daemons_that_see_each_others_locks_share_the_volume(
    daemons: Callable[[str], Store], elsewhere: Any
) -> None:
    a, b = daemons("a"), daemons("b")
    looks(a, b)
    assert (a.reach.problem, b.reach.problem) == ("", "")
    elsewhere({"weights": bytes(100)}).give(a)


def test_daemon_that_lives_without_a_lock_to_be_seen_ends_all_changes(
    daemons: Callable[[str], Store], elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = daemons("a"), daemons("b")
    model = elsewhere({"weights": bytes(100)})
    model.give(a)
    # As where each host keeps locks for itself.
    monkeypatch.setattr(locks, "is_held", lambda path: False)
    looks(a, b)
    assert f"process {os.getpid()} on host" in a.reach.problem
    assert "a MODELS_DIR of its own" in b.reach.problem
    for refused in (lambda: model.give(a), lambda: b.forget(model.manifest.id)):
        with pytest.raises(LocalError, match="neither sees the other's locks"):
            refused()
    # What is there is read all the same.
    assert a.manifest(model.manifest.id) == model.manifest


def test_last_words_of_a_daemon_that_died_are_no_sign_of_life(
    daemons: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = daemons("a"), daemons("b")
    looks(a, b)
    monkeypatch.setattr(locks, "is_held", lambda path: False)
    a.reach.look()
    # Written before its end, and seen only now.
    b.reach.look()
    looks(a, times=5)
    assert a.reach.problem == ""


def lose_its_lock(store: Store) -> Path:
    """Let a daemon's lock end without its knowing; return the file, which is as it was.

    So does a server that heard nothing of its host for longer than a lease.
    """
    held = store._staging.lock
    locks._unlock(held.fd)
    assert not locks.is_held(held.path)
    return held.path


def test_daemon_that_lost_its_lock_takes_it_again_and_nobody_accuses_it(
    daemons: Callable[[str], Store],
) -> None:
    a, b = daemons("a"), daemons("b")
    looks(a, b)
    own = lose_its_lock(a)
    looks(a, b)
    assert (a.reach.problem, b.reach.problem) == ("", "")
    assert locks.is_held(own)


def test_lock_is_never_free_while_it_is_taken_again(
    daemons: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    a = daemons("a")
    path, lock_it, free = a._staging.lock.path, locks._try, []

    def watched(fd: int, place: Path, exclusive: bool) -> bool:
        taken = lock_it(fd, place, exclusive)
        free.append(not locks.is_held(path))
        return taken

    monkeypatch.setattr(locks, "_try", watched)
    looks(a)
    assert free
    assert not any(free)


def test_daemon_whose_lock_another_took_changes_and_says_nothing_until_it_has_it_again(
    daemons: Callable[[str], Store], elsewhere: Any
) -> None:
    a, b = daemons("a"), daemons("b")
    model = elsewhere({"weights": bytes(100)})
    looks(a, b)
    other = FileLock.take(lose_its_lock(a), exclusive=True)
    assert other is not None
    said = locks.note(other.path)
    looks(a, b)
    assert locks.note(other.path) == said
    with pytest.raises(LocalError, match="see whether the volume's server is in reach"):
        model.give(a)
    # As who starts does with what nobody holds.
    a._places.own_staging.rmdir()
    other.discard()
    looks(a, b)
    assert locks.is_held(other.path)
    assert (a.reach.problem, b.reach.problem) == ("", "")
    model.give(a)


@pytest.mark.parametrize("ended", [False, True])
def test_problem_is_over_when_the_lock_is_seen_or_its_daemon_has_ended(
    daemons: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    a, b = daemons("a"), daemons("b")
    with monkeypatch.context() as unseen:
        unseen.setattr(locks, "is_held", lambda path: False)
        looks(a, b)
        assert a.reach.problem != ""
        if ended:
            b._staging.lock.path.unlink()
            looks(a)
            assert a.reach.problem == ""
    if not ended:
        looks(a, b)
        assert (a.reach.problem, b.reach.problem) == ("", "")


@pytest.mark.parametrize(("silent_s", "stays"), [(0.0, True), (STORE_STAGING_SILENCE_S + 1, False)])
def test_work_of_another_host_goes_only_after_long_silence(
    daemons: Callable[[str], Store], tmp_path: Path, silent_s: float, stays: bool
) -> None:
    daemons("a")
    left = tmp_path / "volume/.dreamer/staging/7-left"
    left.mkdir()
    lock_file = left.with_name("7-left.lock")
    lock_file.write_bytes(b"7 another-host 3".ljust(128))
    written_at = lock_file.stat().st_mtime - silent_s
    os.utime(lock_file, (written_at, written_at))
    daemons("b")
    assert left.exists() == stays


def test_file_system_without_flock_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    state = State(tmp_path / "state.db")
    try:
        with pytest.raises(LocalError, match=r"has no locks.*choose another MODELS_DIR"):
            Store(tmp_path / "volume", state)
    finally:
        state.close()
