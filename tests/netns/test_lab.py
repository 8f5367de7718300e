"""The network itself: is what it builds what it says it is?"""

import os
import re
import subprocess
import sys

import pytest

from dreamer.simulations.loopback import Process, until
from dreamer.simulations.netlab.internet import Internet
from dreamer.simulations.netlab.iproute import LabError, ip
from dreamer.simulations.netlab.namespace import PLACE
from dreamer.simulations.netlab.nat import Nat
from dreamer.simulations.netlab.weather import random_loss, round_trip

pytestmark = [pytest.mark.root, pytest.mark.netns, pytest.mark.e2e]

INDEPENDENT = "Endpoint Independent"
DEPENDENT = "Address and Port Dependent"

PATIENCE_S = 10.0
"""How long an echo that must come is waited for: it comes at once, unless others have the cores."""

SHORT_S = 0.5
"""How long one that must not come is."""

ECHO = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("", 7))
    print("echoes", flush=True)
    while True:
        server.sendto(*server.recvfrom(2000))
"""

ASK = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(float(sys.argv[3]))
    came, begun = 0, time.monotonic()
    for _ in range(int(sys.argv[2])):
        client.sendto(b"x" * 1000, (sys.argv[1], 7))
        try:
            came += len(client.recv(2000)) // 1000
        except TimeoutError:
            pass
print(came, time.monotonic() - begun)
"""


@pytest.fixture
def net(networks, tmp_path):
    with Internet(tmp_path / "net") as net:
        yield net


@pytest.fixture
def echo(net, tmp_path):
    """A host that sends back every datagram; its address."""
    host = net.host("echo")
    with Process([*host.within, sys.executable, "-c", ECHO], tmp_path / "echo.log") as process:
        process.start("echoes")
        yield host.address


def ask(host, address: str, count: int = 1, timeout_s: float = PATIENCE_S) -> tuple[int, float]:
    """Send datagrams one by one; return how many came back, and in how many seconds."""
    argv = (sys.executable, "-c", ASK, address, str(count), str(timeout_s))
    came, seconds = host.run(*argv).split()
    return int(came), float(seconds)


def behaviour(host, relay, option: str) -> str:
    """Return what coturn's own client finds out about the NAT (RFC 5780)."""
    said = host.run("turnutils_natdiscovery", option, relay.host.address)
    found = re.search(r"NAT with (.+) (?:Mapping|Filtering)!", said)
    assert found is not None, said
    return found.group(1)


@pytest.mark.parametrize(
    ("kind", "mapping", "filtering"),
    [
        (Nat.FULL_CONE, INDEPENDENT, INDEPENDENT),
        (Nat.PORT_RESTRICTED, INDEPENDENT, DEPENDENT),
        (Nat.SYMMETRIC, DEPENDENT, DEPENDENT),
    ],
)
def test_a_nat_maps_and_filters_as_its_kind_says(net, kind, mapping, filtering):
    relay = net.relay()
    host = net.behind("host", kind)
    assert behaviour(host, relay, "-m") == mapping
    assert behaviour(host, relay, "-f") == filtering


def test_a_network_without_udp_passes_tcp(net, echo, tmp_path):
    home = net.home("home", Nat.PORT_RESTRICTED)
    host = net.lab.host("host", home.inside, str(home.inside.network[2]))
    assert ask(host, echo)[0] == 1
    home.block_udp()
    assert ask(host, echo, timeout_s=SHORT_S)[0] == 0
    tracker = net.tracker()
    script = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + '/health')"
    host.run(sys.executable, "-c", script, tracker.url)


def test_a_slow_wire_takes_its_round_trip(net, echo):
    host = net.host("far", round_trip(0.2))
    # The first one also asks for the other's hardware address.
    assert ask(host, echo)[0] == 1
    came, seconds = ask(host, echo, count=3)
    assert came == 3
    assert seconds >= 3 * 0.2


def test_a_lossy_wire_loses_and_the_same_cable_without_weather_does_not(net, echo):
    asked = 100
    host = net.host("lossy", random_loss(0.5))
    # Until it has found out the other's hardware address.
    until(lambda: ask(host, echo, timeout_s=SHORT_S)[0] == 1, "an echo")
    # Both ways must succeed: a quarter is expected of a hundred.
    assert 5 <= ask(host, echo, asked, timeout_s=0.05)[0] <= 55
    assert ask(net.host("good", random_loss(0.0)), echo, asked)[0] == asked


def test_a_shaped_link_carries_no_more_than_its_rate(net, echo):
    host = net.host("slow")
    assert ask(host, echo)[0] == 1
    host.plug.shape(1.0)
    # 1000 bytes and their headers, both ways one after the other; less the burst of the bucket.
    count = 400
    came, seconds = ask(host, echo, count)
    assert came == count
    assert seconds >= (count * 1000 - 131072) * 8 / 1e6


def test_a_cable_that_is_cut_heals(net, echo):
    host = net.host("host")
    assert ask(host, echo)[0] == 1
    host.plug.silence()
    assert ask(host, echo, timeout_s=SHORT_S)[0] == 0
    host.plug.heal()
    assert ask(host, echo)[0] == 1


def test_a_host_that_moves_is_reached_at_its_new_address_only(net, echo):
    host = net.host("host")
    moved = net.address()
    host.move(moved)
    assert ask(host, echo)[0] == 1
    assert moved in host.run("ip", "-4", "address", "show", "dev", "eth0")
    assert host.run("ip", "-4", "address", "show", "dev", "eth0").count("inet ") == 1


def test_a_router_that_forgets_maps_anew(net):
    relay = net.relay()
    home = net.home("home", Nat.SYMMETRIC)
    host = net.lab.host("host", home.inside, str(home.inside.network[2]))

    def mapped() -> str:
        # Always from the same socket, as far as the NAT can tell.
        own = ("-L", host.address, "-l", "40000")
        said = host.run("turnutils_natdiscovery", "-m", *own, relay.host.address)
        return re.search(r"UDP reflexive addr: (\S+)", said).group(1)

    before = mapped()
    home.forget()
    assert home.space.run("conntrack", "-L").strip() == ""
    assert mapped() != before


def test_nothing_is_left_when_a_test_fails(networks, tmp_path):
    left = []

    def fail() -> None:
        with Internet(tmp_path / "net") as net:
            host = net.host("host", round_trip(0.1))
            left.append(subprocess.Popen([*host.within, "sleep", "1000"]))
            pid = str(left[0].pid)
            until(lambda: pid in ip("netns", "pids", host.space.name).split(), "the sleep")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert left[0].wait(10) != 0
    assert not list(PLACE.glob(f"dreamer-{os.getpid()}-*-host"))


def test_what_a_killed_run_left_is_swept(networks, tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = f"dreamer-{ended.pid}-1-left"
    ip("netns", "add", left)
    with Internet(tmp_path / "net"):
        assert not (PLACE / left).exists()


def test_a_command_that_fails_says_what_it_was(net):
    with pytest.raises(LabError, match="nonsense"):
        net.host("host").run("ip", "nonsense")
