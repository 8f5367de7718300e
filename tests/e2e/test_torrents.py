"""Public models: our nodes and a stock BitTorrent client (libtorrent), through our tracker."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import libtorrent as lt
import psutil
import pytest

from dreamer.simulations.loopback import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

BUCKET = "models"
MIB = 2**20
SIZES = (5 * MIB + 17, 700, 10 * MIB)
SIZE = sum(SIZES)
ENV = {"DREAMER_TORRENT_LISTEN": "127.0.0.1:0", "DREAMER_TORRENT_LOCAL_PEERS": "true"}

STOCK = {
    # Dialled before the other side has the torrent, it would wait a minute to try again.
    "min_reconnect_time": 1,
    "max_failcount": 100,
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "webtorrent_stun_server": "",
    # Only because everything here is on loopback.
    "ssrf_mitigation": False,
    "ignore_limits_on_local_network": False,
}


class Client:
    """A stock libtorrent session with one torrent."""

    def __init__(self, torrent: str, folder: Path, **settings: object) -> None:
        self._session = lt.session({**STOCK, **settings})
        wanted = lt.load_torrent_file(torrent)
        wanted.save_path = str(folder)
        wanted.flags = lt.torrent_flags.update_subscribe
        self._handle = self._session.add_torrent(wanted)

    @property
    def name(self) -> str:
        return self._handle.status().name

    @property
    def has_all(self) -> bool:
        return self._handle.status().is_seeding

    @property
    def up_bytes(self) -> int:
        return self._handle.status().total_payload_upload

    @property
    def down_bytes(self) -> int:
        return self._handle.status().total_payload_download

    def meet(self, port: int) -> None:
        """Dial a client of this machine, whoever told of it."""
        self._handle.connect_peer(("127.0.0.1", port))

    @property
    def was_hung_up_on(self) -> bool:
        return lt.peer_disconnected_alert in map(type, self._session.pop_alerts())

    def end(self) -> None:
        self._session.pause()
        # It waits for its trackers, like a user's client; nothing is sent after it.
        del self._handle, self._session


@contextmanager
def stock(torrent: str, folder: Path, **settings: object) -> Iterator[Client]:
    client = Client(torrent, folder, **settings)
    try:
        yield client
    finally:
        with suppress(AttributeError):
            client.end()


@pytest.fixture(scope="module")
def nodes(team):
    """A, which made the rooms, and B."""
    a, b = team.nodes("A", "B", env=ENV)
    team.room(a, "lab")
    team.room(a, "depot", origin=True)
    for room in ("lab", "depot"):
        team.join(b, a, room)
    return a, b


def push(team, node, name: str, *sizes: int, room: str = "lab"):
    source = team.model(name, *(sizes or SIZES))
    return source, node.dreamer("push", str(source), "--room", room, "--public")


@contextmanager
def stopped(node) -> Iterator[None]:
    node.process.stop()
    try:
        yield
    finally:
        node.start()


def seed_folder(root: Path, source: Path, name: str) -> Path:
    """Lay a model out as a stock client that fetched it before would have it."""
    folder = root / f"stock-{name}"
    folder.mkdir()
    (folder / name).symlink_to(source)
    return folder


@contextmanager
def withheld(team, room: str) -> Iterator[None]:
    """Take the files of a room's models out of its bucket for a while; what describes them stays.

    A busy machine may need longer to find a swarm than a pull lets the origin wait for it.
    """
    client, prefix = team.s3(), f"{team.root.name}-{room}/files/"
    with closing(client):
        listed = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        kept = {
            each["Key"]: client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read()
            for each in listed
        }
        for key in kept:
            client.delete_object(Bucket=BUCKET, Key=key)
        try:
            yield
        finally:
            for key, body in kept.items():
                client.put_object(Bucket=BUCKET, Key=key, Body=body)


def torrent_name(receipt) -> str:
    return f"dreamer-{receipt['short_id']}"


def children(node) -> list[str]:
    found = psutil.Process(node.process.pid).children(recursive=True)
    return [" ".join(one.cmdline()) for one in found]


def test_stock_client_downloads_a_public_model(team, nodes, watch, tmp_path):
    source, receipt = push(team, nodes[0], "shared")
    with stock(receipt["torrent"], tmp_path) as client:
        until(lambda: client.has_all, "the download of a stock client")
        assert client.name == torrent_name(receipt)
    assert watch.content(tmp_path / torrent_name(receipt)) == watch.content(source)


def test_magnet_is_in_the_registry_for_every_member(team, nodes):
    _, receipt = push(team, nodes[0], "listed", 3)
    for node in nodes:
        (model,) = (one for one in node.dreamer("models")["models"] if one["name"] == "listed")
        assert model["magnet"] == receipt["magnet"]
    assert "%2Fannounce" in receipt["magnet"]
    hashes = lt.load_torrent_file(receipt["torrent"]).info_hashes
    assert f"urn:btih:{hashes.v1}&xt=urn:btmh:1220{hashes.v2}" in receipt["magnet"]


def test_same_model_is_the_same_torrent_on_another_node(team, nodes):
    source, first = push(team, nodes[0], "twice")
    again = nodes[1].dreamer("push", str(source), "--room", "lab", "--public", "--name", "other")
    one, other = (Path(receipt["torrent"]).read_bytes() for receipt in (first, again))
    assert one == other


def test_room_in_the_settings_is_public_without_being_asked(team):
    node = team.node("R", env=ENV)
    team.room(node, "open")
    team.room(node, "shut")
    (room_id,) = (
        r["room_id"] for r in node.dreamer("room", "list")["rooms"] if r["name"] == "open"
    )
    with stopped(node):
        node.env["DREAMER_TORRENT_PUBLIC_ROOMS"] = room_id
    source = team.model("given", MIB)
    shut, given = (node.dreamer("push", str(source), "--room", room) for room in ("shut", "open"))
    assert (shut["magnet"], shut["torrent"]) == ("", "")
    assert given["magnet"].startswith("magnet:?xt=urn:btih:")
    until(
        lambda: given["short_id"] in node.dreamer("status")["torrent"]["seeding"],
        "the seeding of a public room's model",
    )


def by_libtorrent(source: Path, name: str, root: Path) -> tuple[str, str]:
    """Return the info hashes that libtorrent computes from the files of a model."""
    (root / name).symlink_to(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        storage = lt.file_storage()
        for path in sorted(source.iterdir()):
            storage.add_file(f"{name}/{path.name}", path.stat().st_size)
        torrent = lt.create_torrent(storage, MIB)
        lt.set_piece_hashes(torrent, str(root))
        hashes = lt.torrent_info(torrent.generate()).info_hashes()
    return str(hashes.v1), str(hashes.v2)


def test_private_model_has_the_same_info_hashes_on_every_node(team, nodes, tmp_path):
    source = team.model("unseen", *SIZES)
    pushed = nodes[0].dreamer("push", str(source), "--room", "lab")
    ref = pushed["short_id"]
    refused = nodes[1].try_dreamer("torrent", ref)
    assert refused.status == 1
    assert f"dreamer pull {ref}" in refused.err
    nodes[1].dreamer("pull", ref, "--output", str(tmp_path / "pulled"))
    first, second = (node.dreamer("torrent", ref) for node in nodes)
    expected = by_libtorrent(source, torrent_name(pushed), tmp_path)
    for receipt in (first, second):
        assert (receipt["info_hash_v1"], receipt["info_hash_v2"]) == expected
        assert "tr=" not in receipt["magnet"]
        written = lt.load_torrent_file(receipt["path"])
        assert (str(written.info_hashes.v1), str(written.info_hashes.v2)) == expected
        assert written.trackers == []
    assert first["path"] != second["path"]
    for node in nodes:
        assert ref not in node.dreamer("status")["torrent"]["seeding"]
        (model,) = (one for one in node.dreamer("models")["models"] if one["short_id"] == ref)
        assert model["magnet"] == ""


def test_model_that_is_not_public_is_in_no_torrent(team):
    node = team.node("P", env=ENV)
    team.room(node, "private")
    receipt = node.dreamer("push", str(team.model("secret", MIB)), "--room", "private")
    assert (receipt["magnet"], receipt["torrent"]) == ("", "")
    assert node.dreamer("models")["models"][0]["magnet"] == ""
    assert not any("dreamer.daemon.torrent" in line for line in children(node))


def test_stock_client_that_knows_a_private_model_gets_no_byte_of_it(team, nodes, tmp_path):
    """It has the torrent, as others published the same files, and the address of a holder."""
    source, known = push(team, nodes[1], "known", 2 * MIB)
    node = team.node("Q", env=ENV)
    team.room(node, "closed")
    node.dreamer("push", str(source), "--room", "closed")
    _, public = push(team, node, "open", MIB, room="closed")
    until(lambda: node.dreamer("status")["torrent"]["port"], "a port for peers")
    port = node.dreamer("status")["torrent"]["port"]
    heard = {"alert_mask": lt.alert.category_t.connect_notification}
    with stopped(nodes[1]), stock(public["torrent"], tmp_path) as welcome:
        welcome.meet(port)
        until(lambda: welcome.has_all, "the public model, from the same port")
        with stock(known["torrent"], tmp_path, **heard) as stranger:
            stranger.meet(port)
            until(lambda: stranger.was_hung_up_on, "the end of the stranger's connection")
            assert stranger.down_bytes == 0
            # That others give these bytes to anybody is no leave to give them.
            assert node.dreamer("status")["torrent"]["seeding"] == [public["short_id"]]


def test_public_model_is_pulled_from_a_stock_seeder_alone(team, nodes, watch, tmp_path):
    a, b = nodes
    source, receipt = push(team, a, "seeded", room="depot")
    folder = seed_folder(tmp_path, source, torrent_name(receipt))
    with stopped(a), stock(receipt["torrent"], folder) as seeder, withheld(team, "depot"):
        until(lambda: seeder.has_all, "the check of the stock seeder")
        pulled = b.dreamer("pull", receipt["short_id"], "--room", "depot")
    assert pulled["bytes"]["torrent"] == SIZE
    assert watch.moved(pulled) == SIZE
    assert watch.content(Path(pulled["path"])) == watch.content(source)


def test_torrent_that_dies_at_60_percent_costs_nothing(team, nodes, watch, tmp_path):
    a, b = nodes
    source, receipt = push(team, a, "dying", 24 * MIB + 5, 16 * MIB, room="depot")
    size = receipt["size_bytes"]
    folder = seed_folder(tmp_path, source, torrent_name(receipt))
    slow = {"upload_rate_limit": 4 * MIB}
    with stopped(a), stock(receipt["torrent"], folder, **slow) as seeder:
        until(lambda: seeder.has_all, "the check of the stock seeder")
        with withheld(team, "depot"):
            pulling = b.begin("pull", receipt["short_id"], "--room", "depot", "--json")
            until(lambda: seeder.up_bytes > 0.6 * size, "60% from the stock seeder")
        sent = seeder.up_bytes
        seeder.end()
        out, err = pulling.communicate(timeout=100)
    assert pulling.returncode == 0, err
    pulled = json.loads(out)
    moved = pulled["bytes"]
    assert watch.moved(pulled) == size
    assert moved["torrent"] > 0.5 * size
    assert moved["origin"] == size - moved["torrent"]
    # Of what the seeder sent, only pieces it had begun were fetched again.
    assert sent - moved["torrent"] < 16 * MIB
    assert watch.content(Path(pulled["path"])) == watch.content(source)


def torrent_bytes(node) -> int:
    """Return what the pull under way has brought from the swarm, verified."""
    pulls = node.dreamer("status")["pulls"]
    return sum(pull["progress"]["by_lane"].get("torrent", 0) for pull in pulls)


def test_killed_pull_goes_on_from_what_the_torrent_brought(team, nodes, watch, tmp_path):
    a, b = nodes
    source, receipt = push(team, a, "killed", 24 * MIB + 5, 16 * MIB, room="depot")
    size = receipt["size_bytes"]
    folder = seed_folder(tmp_path, source, torrent_name(receipt))
    slow = {"upload_rate_limit": 4 * MIB}
    with stopped(a), stock(receipt["torrent"], folder, **slow) as seeder:
        until(lambda: seeder.has_all, "the check of the stock seeder")
        with (
            withheld(team, "depot"),
            b.begin("pull", receipt["short_id"], "--room", "depot", "--json") as pulling,
        ):
            until(lambda: torrent_bytes(b) > 0.3 * size, "30% from the stock seeder")
            before = torrent_bytes(b)
            b.process.kill()
            pulling.communicate(timeout=100)
        assert pulling.returncode != 0
        # The torrent process ends with its daemon, however that ends.
        b.start()
        pulled = b.dreamer("pull", receipt["short_id"], "--room", "depot")
        sent = seeder.up_bytes
    assert pulled["resumed"] >= before
    assert watch.moved(pulled) == size - pulled["resumed"]
    # What was in flight when it was killed, and what libtorrent had begun of other pieces.
    assert sent + pulled["bytes"]["origin"] < size + 14 * MIB
    assert watch.content(Path(pulled["path"])) == watch.content(source)


def test_seeding_leaves_the_stored_files_alone(team, nodes, tmp_path):
    a, _ = nodes
    _, receipt = push(team, a, "untouched")
    store = a.home / "models" / ".dreamer" / "files"
    before = {path.name: path.stat() for path in store.iterdir()}
    with stock(receipt["torrent"], tmp_path) as client:
        until(lambda: client.has_all, "the download of a stock client")
    after = {path.name: path.stat() for path in store.iterdir()}
    facts = [(s.st_mtime_ns, s.st_size, s.st_mode, s.st_ino) for s in before.values()]
    assert [(s.st_mtime_ns, s.st_size, s.st_mode, s.st_ino) for s in after.values()] == facts
    assert not [p for p in a.home.rglob("*") if p.name.endswith(".parts") or ".pad" in p.parts]


def let_anybody_read(s3, origin: str) -> None:
    """Set the policy that docs/torrents.md asks for."""
    bucket, _, prefix = origin.removeprefix("s3://").partition("/")
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/{prefix}/torrents/*",
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    s3.close()


def test_origin_that_anybody_can_read_is_a_web_seed(team, watch, tmp_path):
    env = {**ENV, "DREAMER_TORRENT_ORIGIN_IS_PUBLIC": "true"}
    node = team.node("W", env=env)
    team.room(node, "open", origin=True)
    source, receipt = push(team, node, "webseed", 2 * MIB + 5, MIB, room="open")
    assert "&ws=http" in receipt["magnet"]
    let_anybody_read(team.s3(), node.dreamer("room", "list")["rooms"][0]["origin"])
    # The S3 server of the tests closes each connection; libtorrent would come back in 30 s.
    impatient = {"urlseed_wait_retry": 1}
    with stopped(node), stock(receipt["torrent"], tmp_path, **impatient) as client:
        until(lambda: client.has_all, "the download from the origin")
        assert watch.content(tmp_path / torrent_name(receipt)) == watch.content(source)
