"""Announces over plain HTTP: what aria2, transmission and their like say and are told."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
import time
from contextlib import suppress
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from dreamer.protocol.bencode import decode
from dreamer.protocol.ids import InfoHash, ManifestId
from dreamer.protocol.rooms.card import swarm_hash
from dreamer.protocol.tracker_limits import (
    TRACKER_HTTP_INTERVAL_S,
    TRACKER_HTTP_KEY_MAX_BYTES,
    TRACKER_HTTP_MAX_NUMWANT,
    TRACKER_HTTP_MAX_PEERS,
    TRACKER_HTTP_MIN_INTERVAL_S,
    TRACKER_HTTP_NUMWANT,
    TRACKER_HTTP_PEER_AGE_S,
    TRACKER_HTTP_PEERS_PER_ADDRESS,
    TRACKER_HTTP_REQUESTS_BURST,
    TRACKER_HTTP_REQUESTS_PER_S,
)
from dreamer.tracker.public.http_announce import HttpAnnounce
from dreamer.tracker.public.http_announce_query import (
    QueryError,
    TcpAnnounce,
    parse_announce,
    parse_scrape,
)
from dreamer.tracker.public.tcp_swarms import TcpSwarms
from dreamer.tracker.public.wire import Event, PeerId
from dreamer.tracker.stats import Tally

A_HASH, B_HASH = b"a" * 20, bytes(range(236, 256))
ONE, TWO = b"-XX0001-111111111111", b"-XX0001-222222222222"
HERE, ELSEWHERE, FAR = "198.51.100.7", "203.0.113.9", "2001:db8:1:2::5"
ANNOUNCED = f"info_hash={'a' * 20}&peer_id={ONE.decode()}&port=6881&left=0"


def query(info_hash=A_HASH, peer_id=ONE, port=6881, left=5, **more) -> str:
    said = {"info_hash": info_hash, "peer_id": peer_id, "port": port, "left": left, **more}
    written = {
        name: quote_from_bytes(value) if isinstance(value, bytes) else value
        for name, value in said.items()
    }
    return "&".join(f"{name}={value}" for name, value in written.items())


def dialled(compact: bytes) -> list[tuple[str, int]]:
    """Read a list of IPv4 (BEP 23)."""
    return [
        (str(ipaddress.IPv4Address(compact[at : at + 4])), int.from_bytes(compact[at + 4 : at + 6]))
        for at in range(0, len(compact), 6)
    ]


class Desk:
    """The HTTP tracker without sockets, at a time of one's choice."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.tally = Tally()
        self.swarms = TcpSwarms(random.Random(3))
        self._serving = HttpAnnounce(self.swarms, self.tally, lambda: self.now)

    def ask(self, address: str, path: str, *headers: str) -> dict:
        lines = [f"GET {path} HTTP/1.1", "Host: x", *headers]
        response = self._serving.response("\r\n".join(lines).encode("latin-1"), address)
        assert response is not None
        head, _, body = response.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        return {key.decode(): value for key, value in decode(body).items()}

    def announce(self, address: str = HERE, **said) -> dict:
        return self.ask(address, "/announce?" + query(**said))

    def scrape(self, info_hash: bytes = A_HASH) -> dict:
        files = self.ask(HERE, f"/scrape?info_hash={quote_from_bytes(info_hash)}")["files"]
        return {key.decode(): value for key, value in files[info_hash].items()}


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def get(running, path: str, **options) -> dict:
    async with running.http.get(URL(running.url + path, encoded=True), **options) as response:
        assert response.status == 200
        return decode(await response.read())


async def test_two_clients_on_the_websockets_port_learn_of_each_other(running):
    first = await get(running, "/announce?" + query(B_HASH, ONE, 4001, left=0))
    assert first == {
        b"complete": 1, b"incomplete": 0, b"downloaded": 0, b"peers": b"",
        b"interval": TRACKER_HTTP_INTERVAL_S, b"min interval": TRACKER_HTTP_MIN_INTERVAL_S,
    }  # fmt: skip
    second = await get(running, "/announce?" + query(B_HASH, TWO, 4002))
    assert dialled(second[b"peers"]) == [("127.0.0.1", 4001)]
    scraped = await get(running, "/scrape?info_hash=" + quote_from_bytes(B_HASH))
    assert scraped[b"files"][B_HASH] == {b"complete": 1, b"incomplete": 1, b"downloaded": 0}
    stats = await running.stats()
    assert (stats["tcp_swarms"], stats["tcp_seeders"], stats["tcp_leechers"]) == (1, 1, 1)
    assert stats["announces"] == 2
    assert "dreamer_tracker_tcp_seeders 1\n" in (await running.get("/metrics"))[1]


async def test_clients_that_are_reached_in_different_ways_are_counted_apart(running):
    """A browser can't dial TCP, and aria2 speaks no WebRTC: neither is any use to the other."""
    await get(running, "/announce?" + query(port=4001, left=0))
    talker = await running.open()
    reply = await talker.announce("1" * 20, info_hash="a" * 20, left=7)
    assert (reply["complete"], reply["incomplete"]) == (0, 1)
    again = await get(running, "/announce?" + query(port=4001, left=0))
    assert (again[b"complete"], again[b"incomplete"]) == (1, 0)
    assert again[b"peers"] == b""


async def test_listener_of_both_families_tells_ipv4_as_such(documents, serving, running):
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    async with running.tracker.listening("::", 0) as port:
        asked = []
        for host, listens in (("127.0.0.1", 4001), ("[::1]", 4002), ("[::1]", 4003)):
            url = f"http://{host}:{port}/announce?" + query(port=listens)
            async with running.http.get(URL(url, encoded=True)) as response:
                asked.append(decode(await response.read()))
    assert dialled(asked[1][b"peers"]) == [("127.0.0.1", 4001)]
    loopback6 = ipaddress.IPv6Address("::1").packed
    assert asked[2][b"peers6"] == loopback6 + (4002).to_bytes(2)
    assert dialled(asked[2][b"peers"]) == [("127.0.0.1", 4001)]


async def test_trackers_sweep_forgets_who_is_gone(running):
    await get(running, "/announce?" + query())
    running.tracker.sweep(time.monotonic() + TRACKER_HTTP_PEER_AGE_S - 1)
    assert (await running.stats())["tcp_leechers"] == 1
    running.tracker.sweep(time.monotonic() + TRACKER_HTTP_PEER_AGE_S + 1)
    assert (await running.stats())["tcp_leechers"] == 0


async def test_private_rooms_swarm_is_unknown_here(running, insiders):
    secret_hash = swarm_hash(b"s" * 32, ManifestId(b"m" * 32))
    talker, _ = await insiders[0].enter(running)
    await talker.say(type="announce", have=[secret_hash.hex()])
    await talker.say(type="presence", capabilities={})
    nothing = {b"complete": 0, b"incomplete": 0, b"downloaded": 0}
    scraped = await get(running, "/scrape?info_hash=" + quote_from_bytes(secret_hash))
    assert scraped[b"files"] == {secret_hash: nothing}
    # A stranger that guesses it has a public swarm of that name, and is alone in it.
    assert (await get(running, "/announce?" + query(secret_hash)))[b"peers"] == b""


@pytest.mark.e2e
async def test_with_workers_all_clients_meet_at_the_main_process(tracker_process, redis):
    tracker = await tracker_process("--redis", redis.url, "--workers", "2")
    heard = []
    for port in range(4001, 4007):
        url = f"{tracker.url}/announce?" + query(port=port)
        async with tracker._http.get(URL(url, encoded=True)) as response:
            heard.append(decode(await response.read()))
    assert [each[b"incomplete"] for each in heard] == [1, 2, 3, 4, 5, 6]
    assert len(heard[-1][b"peers"]) == 5 * 6
    assert (await tracker.get_json("/stats"))["tcp_leechers"] == 6


async def test_what_is_no_announce_is_left_to_the_web_server(running):
    host, port = running.url.removeprefix("http://").split(":")
    for request, status in (
        ("GET /announce HTTP/1.1\r\n", 426),
        ("GET /scrape HTTP/1.1\r\n", 404),
        (f"POST /announce?{ANNOUNCED} HTTP/1.1\r\nContent-Length: 0\r\n", 405),
        (f"GET /announce?{ANNOUNCED} HTTP/1.1\r\nContent-Length: 3\r\n", 426),
        (f"GET /announce?{ANNOUNCED} HTTP/1.1\r\nUpgrade: websocket\r\n", 426),
        (f"GET /announce?{ANNOUNCED} HTTP/2.0\r\n", 426),
        (f"GET /announce?{ANNOUNCED} HTTP/1.0\r\n", 200),
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{request}Host: x\r\n\r\n".encode())
        async with asyncio.timeout(5):
            assert int((await reader.readline()).split(b" ")[1]) == status, request
        writer.close()
    assert (await running.stats())["tcp_seeders"] == 1


def test_peer_is_where_it_came_from_whatever_it_claims(desk):
    claims = {"ip": ELSEWHERE, "ipv4": ELSEWHERE, "ipv6": quote_from_bytes(b"2001:db8::1")}
    desk.announce(HERE, port=4001, **claims)
    told = desk.announce(ELSEWHERE, peer_id=TWO)
    assert dialled(told["peers"]) == [(HERE, 4001)]
    assert "peers6" not in told


def test_seeder_is_told_leechers_first_and_then_seeders(desk):
    """aria2 says that it lacks nothing as long as it has only a magnet link."""
    for number in range(5):
        desk.announce(HERE, port=1000 + number, left=0)
    desk.announce(HERE, port=2000)
    desk.announce(FAR, port=2001)
    told = desk.announce(ELSEWHERE, left=0, numwant=4)
    assert (HERE, 2000) in dialled(told["peers"])
    assert (len(told["peers"]), len(told["peers6"])) == (3 * 6, 18)


def test_own_family_comes_first_and_the_other_fills_up(desk):
    for number in range(10):
        desk.announce(FAR, port=1000 + number)
        desk.announce(HERE, port=2000 + number)
    told = desk.announce(ELSEWHERE, numwant=12)
    assert (len(told["peers"]), len(told["peers6"])) == (10 * 6, 2 * 18)
    told = desk.announce("2001:db8:9::1", numwant=12)
    assert (len(told["peers"]), len(told["peers6"])) == (2 * 6, 10 * 18)


def test_peers_on_the_trackers_machine_are_told_only_there(desk):
    desk.announce("127.0.0.1", port=1001)
    desk.announce("::1", port=1002)
    assert desk.announce(ELSEWHERE)["peers"] == b""
    told = desk.announce("127.0.0.5")
    assert len(told["peers6"]) == 18
    assert sorted(dialled(told["peers"])) == [("127.0.0.1", 1001), (ELSEWHERE, 6881)]


def test_client_that_stops_is_told_nobody_and_is_gone(desk):
    desk.announce(left=0)
    desk.announce(ELSEWHERE)
    stopped = desk.announce(left=0, event="stopped")
    assert (stopped["peers"], stopped["complete"], stopped["incomplete"]) == (b"", 0, 1)
    # Who was never here, and stops.
    assert desk.announce(FAR, event="stopped")["incomplete"] == 1


@pytest.mark.parametrize(
    "stranger",
    [{"address": ELSEWHERE}, {"peer_id": TWO}, {"key": "guessed"}, {"port": 6882}],
)
def test_nobody_else_can_say_that_a_client_stops(desk, stranger):
    desk.announce(key="abcd")
    desk.announce(**{"key": "abcd", "event": "stopped", **stranger})
    assert desk.scrape()["incomplete"] == 1


def test_client_that_started_anew_is_one_peer(desk):
    desk.announce(left=0, key="old")
    desk.announce(left=3, key="new", peer_id=TWO)
    assert desk.scrape() == {"complete": 0, "incomplete": 1, "downloaded": 0}


def test_completed_counts_once_for_each_that_was_no_seeder(desk):
    desk.announce(left=3, event="started")
    for _ in range(2):
        assert desk.announce(left=0, event="completed")["downloaded"] == 1
    assert desk.scrape() == {"complete": 1, "incomplete": 0, "downloaded": 1}


def test_client_that_does_not_announce_for_long_is_forgotten(desk):
    desk.announce(HERE)
    desk.now += TRACKER_HTTP_PEER_AGE_S / 2
    desk.announce(ELSEWHERE)
    desk.now += TRACKER_HTTP_PEER_AGE_S / 2 + 1
    desk.swarms.prune(desk.now)
    assert desk.announce(FAR)["incomplete"] == 2
    desk.now += TRACKER_HTTP_PEER_AGE_S + 1
    desk.swarms.prune(desk.now)
    assert desk.swarms.totals() == {"tcp_swarms": 0, "tcp_seeders": 0, "tcp_leechers": 0}
    assert vars(desk.swarms)["_at_site"] == {}


def test_regular_announces_keep_a_client_whatever_its_clock(desk):
    """libtorrent comes every five minutes at most; one announce may be lost."""
    assert 2 * TRACKER_HTTP_INTERVAL_S < TRACKER_HTTP_PEER_AGE_S
    for _ in range(5):
        desk.announce()
        desk.now += 2 * TRACKER_HTTP_INTERVAL_S
        desk.swarms.prune(desk.now)
        assert desk.scrape()["incomplete"] == 1


def test_so_many_peers_are_told_and_no_more(desk):
    for number in range(TRACKER_HTTP_MAX_NUMWANT + 10):
        desk.announce(HERE, port=1000 + number)
    asked = [{}, {"numwant": -1}, {"numwant": "many"}, {"numwant": 0}, {"numwant": 10**9}]
    told = [len(desk.announce(ELSEWHERE, **each)["peers"]) // 6 for each in asked]
    usual = TRACKER_HTTP_NUMWANT
    assert told == [usual, usual, usual, 0, TRACKER_HTTP_MAX_NUMWANT]


def test_long_key_is_remembered_in_part(desk):
    key = "k" * TRACKER_HTTP_KEY_MAX_BYTES
    desk.announce(key=key + "x")
    desk.announce(key=key + "y", event="stopped")
    assert desk.scrape()["incomplete"] == 0


def test_address_that_floods_is_told_to_wait_and_others_are_served(desk):
    for _ in range(int(TRACKER_HTTP_REQUESTS_BURST)):
        assert "peers" in desk.announce(HERE)
    refused = desk.announce(HERE)
    assert "too many requests" in refused["failure reason"].decode()
    assert refused["retry in"] == 1
    # Asking for something else, or in another way, is no way round.
    assert "failure reason" in desk.ask(HERE, "/scrape?x=1")
    assert "failure reason" in desk.ask(f"::ffff:{HERE}", "/announce?x=1")
    assert "peers" in desk.announce(ELSEWHERE)
    desk.now += 3 / TRACKER_HTTP_REQUESTS_PER_S
    assert ["peers" in desk.announce(HERE) for _ in range(5)] == [True] * 3 + [False] * 2
    assert desk.tally.refused == 5


def place_peers(desk: Desk, address: str, how_many: int) -> None:
    where = ipaddress.ip_address(address).packed
    for number in range(how_many):
        said = TcpAnnounce(
            InfoHash(number.to_bytes(20)), PeerId(ONE), 6881, Event.NONE, None, 0, b""
        )
        desk.swarms.announce(where + (6881).to_bytes(2), said, desk.now)


def test_one_address_has_so_many_peers_over_all_swarms(desk):
    place_peers(desk, "2001:db8::1", TRACKER_HTTP_PEERS_PER_ADDRESS)
    # Whoever has one address of IPv6 has the /64.
    refused = desk.announce("2001:db8::2")
    assert "too many peers" in refused["failure reason"].decode()
    assert "peers" in desk.announce(ELSEWHERE)
    # Who is there already goes on.
    assert "peers" in desk.announce("2001:db8::1", info_hash=bytes(20))
    desk.announce("2001:db8::1", info_hash=bytes(20), event="stopped")
    assert "peers" in desk.announce("2001:db8::2")


def test_tracker_that_is_full_says_so(desk):
    sites, rest = divmod(TRACKER_HTTP_MAX_PEERS, TRACKER_HTTP_PEERS_PER_ADDRESS)
    assert not rest
    for site in range(sites):
        place_peers(desk, f"10.0.0.{site}", TRACKER_HTTP_PEERS_PER_ADDRESS)
    assert len(desk.swarms) == TRACKER_HTTP_MAX_PEERS
    assert "full" in desk.announce(ELSEWHERE)["failure reason"].decode()
    desk.announce("10.0.0.0", info_hash=bytes(20), event="stopped")
    assert "peers" in desk.announce(ELSEWHERE)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (f"info_hash={'a' * 20}&", "", "info_hash"),
        (f"info_hash={'a' * 20}", f"info_hash={'a' * 40}", "info_hash"),
        ("info_hash=a", "info_hash=%zz", "info_hash"),
        ("info_hash=", f"info_hash={'b' * 20}&info_hash=", "once"),
        (f"peer_id={ONE.decode()}", "peer_id=x", "peer_id"),
        ("port=6881", "port=0", "port"),
        ("port=6881", "port=1", "port"),
        ("port=6881", "port=65536", "port"),
        ("port=6881", "port=-6881", "port"),
        ("port=6881", "port=6_881", "port"),
        ("port=6881", "port=" + "9" * 5000, "port"),
        ("port=6881", "p=1", "port"),
        (ANNOUNCED, "", "info_hash"),
        (ANNOUNCED, "&&&==&%", "info_hash"),
    ],
)
def test_query_that_can_not_be_answered_is_told_why(desk, old, new, reason):
    assert old in ANNOUNCED
    told = desk.ask(HERE, "/announce?" + ANNOUNCED.replace(old, new, 1))
    assert reason in told["failure reason"].decode()
    assert desk.tally.refused == 1
    assert len(desk.swarms) == 0


@pytest.mark.parametrize(
    "more",
    ["left=-1", "left=", "left=x", "event=nothing", "event=paused", "compact=0", "no_peer_id=1",
     "supportcrypto=1&requirecrypto=1", "uploaded=%00", "trackerid=", "\xe9=\xff", "numwant="],
)  # fmt: skip
def test_what_clients_add_or_leave_out_is_survived(desk, more):
    said = ANNOUNCED.replace("&left=0", "") + "&" + more
    assert desk.ask(HERE, "/announce?" + said)["incomplete"] == 1


@pytest.mark.parametrize("asked", ["x=1", "info_hash=", "info_hash=short", "info_hash"])
def test_scrape_that_names_no_swarm_is_told_why(desk, asked):
    assert "info_hash" in desk.ask(HERE, "/scrape?" + asked)["failure reason"].decode()


def test_several_swarms_are_scraped_at_once(desk):
    desk.announce(info_hash=B_HASH)
    asked = "&".join(f"info_hash={quote_from_bytes(each)}" for each in (A_HASH, B_HASH, A_HASH))
    files = desk.ask(HERE, "/scrape?" + asked)["files"]
    assert {name: counts[b"incomplete"] for name, counts in files.items()} == {A_HASH: 0, B_HASH: 1}


@pytest.mark.parametrize("header", ["Via: 1.1 p", "X-Forwarded-For: 192.0.2.1", "forwarded: for=x"])
def test_client_behind_a_proxy_is_told_that_it_can_not_be_dialled(desk, header):
    told = desk.ask("127.0.0.1", "/announce?" + ANNOUNCED, header)
    assert "proxy" in told["failure reason"].decode()


def test_plus_is_a_space_as_in_forms(desk):
    desk.announce(peer_id=b"-XX0001- 11111111111")
    said = query(event="stopped").replace(ONE.decode(), "-XX0001-+11111111111")
    assert desk.ask(HERE, "/announce?" + said)["incomplete"] == 0


@given(st.binary(max_size=300) | st.text("&=%+afips_nohr0123456789", max_size=300))
def test_any_bytes_are_a_query_or_an_error(said):
    said = said if isinstance(said, bytes) else said.encode()
    for parse in (parse_announce, parse_scrape):
        with suppress(QueryError):
            parse(said)


@given(
    st.binary(min_size=20, max_size=20),
    st.binary(min_size=20, max_size=20),
    st.integers(2, 65535),
    st.none() | st.integers(0, 2**63),
    st.sampled_from(Event),
    st.binary(max_size=TRACKER_HTTP_KEY_MAX_BYTES),
    st.sampled_from(["", "~!*()'", "".join(map(chr, range(33, 127)))]),
)
def test_whatever_is_encoded_is_read_back(info_hash, peer_id, port, left, event, key, bare):
    """Clients differ in which bytes they leave as they are."""
    safe = "".join(each for each in bare if each not in "&=%+#")
    pairs = {
        "port": str(port),
        "event": event.value,
        **{
            name: quote_from_bytes(value, safe)
            for name, value in (("key", key), ("peer_id", peer_id), ("info_hash", info_hash))
        },
        **({} if left is None else {"left": str(left)}),
    }
    said = parse_announce("&".join(f"{name}={value}" for name, value in pairs.items()).encode())
    assert (said.info_hash, said.peer_id, said.port) == (info_hash, peer_id, port)
    assert (said.left, said.event, said.key) == (left, event, key)
    assert parse_scrape(f"info_hash={pairs['info_hash']}".encode()) == (info_hash,)
