"""Two nodes and the NATs between them: which lane is found, and how soon."""

from __future__ import annotations

from functools import partial

from dreamer.simulations.netlab.nat import Nat
from dreamer.simulations.netlab.pair import Outcome, Place
from dreamer.simulations.netlab.world import Scenario, World

MAPPED_PORT = 4470
LINK_TRIED_S = 25.0
"""How long a link is waited for that can't come up."""


def both_public(world: World) -> Outcome:
    """Both have public addresses."""
    giver, taker = (world.place(world.net.host(name)) for name in ("giver", "taker"))
    with world.pair(giver, taker) as pair:
        return pair.meet()


def same_home(world: World) -> Outcome:
    """Both are in the same private network, behind one NAT."""
    home = world.net.home("home", Nat.PORT_RESTRICTED).inside
    giver, taker = (
        world.place(world.net.lab.host(name, home, str(home.network[number])))
        for number, name in ((2, "giver"), (3, "taker"))
    )
    with world.pair(giver, taker) as pair:
        return pair.meet()


def one_public(world: World, kind: Nat) -> Outcome:
    """The one who gives is behind a NAT, the other is not; so it is the giver who connects."""
    giver = world.place(world.net.behind("giver", kind))
    with world.pair(giver, world.place(world.net.host("taker"))) as pair:
        return pair.meet()


def mapped_port(world: World) -> Outcome:
    """Both are behind NATs, but the giver's has a port forwarded to it."""
    home = world.net.home("giver-nat", Nat.PORT_RESTRICTED)
    inner = str(home.inside.network[2])
    home.map_port(MAPPED_PORT, inner)
    settings = {
        "DREAMER_NETWORK_DIRECT_LISTEN": f"0.0.0.0:{MAPPED_PORT}",
        "DREAMER_NETWORK_DIRECT_ADDRESSES": f"{home.address}:{MAPPED_PORT}",
    }
    giver = world.place(world.net.lab.host("giver", home.inside, inner), settings)
    taker = world.place(world.net.behind("taker", Nat.SYMMETRIC))
    with world.pair(giver, taker) as pair:
        return pair.meet()


def behind(world: World, giver_kind: Nat, taker_kind: Nat) -> Outcome:
    """Both are behind NATs, and have the same private address."""
    giver = world.place(world.net.behind("giver", giver_kind))
    taker = world.place(world.net.behind("taker", taker_kind))
    with world.pair(giver, taker) as pair:
        return pair.meet()


def stun_alone(world: World) -> Outcome:
    """There is no relay; both were told a STUN server."""
    stun = {"DREAMER_NETWORK_STUN": world.relay.stun}
    giver, taker = (
        world.place(world.net.behind(name, Nat.PORT_RESTRICTED), stun)
        for name in ("giver", "taker")
    )
    with world.pair(giver, taker, tracker=world.net.tracker()) as pair:
        return pair.meet()


def no_udp_one_public(world: World) -> Outcome:
    """The taker's network lets no UDP through; the giver has an address.

    Links are made by WebRTC, which aiortc does over UDP alone; so it takes TURN over TCP for the
    messages, by which they find the direct way for the bytes.
    """
    (taker, _) = _without_udp(world)
    with world.pair(world.place(world.net.host("public")), taker) as pair:
        return pair.meet()


def no_udp_no_turn(world: World) -> Outcome:
    """The taker's network lets no UDP through, the giver has an address, and there is no relay."""
    (taker, _) = _without_udp(world)
    giver = world.place(world.net.host("public"))
    with world.pair(giver, taker, tracker=world.net.tracker()) as pair:
        pair.linked(LINK_TRIED_S)
        return pair.pull()


def no_udp_relay(world: World) -> Outcome:
    """No UDP on either side, both behind NATs: TURN over TCP, which the tracker lends as well."""
    giver, taker = _without_udp(world)
    with world.pair(giver, taker) as pair:
        return pair.meet()


def no_udp_origin(world: World) -> Outcome:
    """No UDP, no address, no relay: what is left is the room's origin."""
    giver, taker = _without_udp(world)
    origin = world.net.origin()
    with world.pair(giver, taker, tracker=world.net.tracker(), origin=origin) as pair:
        return pair.pull()


NATS = (
    Scenario("both public", "direct", both_public),
    Scenario("same home", "direct", same_home),
    Scenario("port-restricted, public", "direct", partial(one_public, kind=Nat.PORT_RESTRICTED)),
    Scenario("symmetric, public", "direct", partial(one_public, kind=Nat.SYMMETRIC)),
    Scenario("mapped port, symmetric", "direct", mapped_port),
    *(
        Scenario(
            f"{giver.value}, {taker.value}",
            lane,
            partial(behind, giver_kind=giver, taker_kind=taker),
        )
        for giver, taker, lane in (
            (Nat.FULL_CONE, Nat.FULL_CONE, "webrtc"),
            (Nat.PORT_RESTRICTED, Nat.PORT_RESTRICTED, "webrtc"),
            (Nat.FULL_CONE, Nat.PORT_RESTRICTED, "webrtc"),
            (Nat.FULL_CONE, Nat.SYMMETRIC, "webrtc"),
            (Nat.PORT_RESTRICTED, Nat.SYMMETRIC, "relay"),
            (Nat.SYMMETRIC, Nat.SYMMETRIC, "relay"),
        )
    ),
    Scenario("port-restricted, port-restricted, no TURN", "webrtc", stun_alone),
    Scenario("no UDP, public, no TURN", "direct", no_udp_no_turn),
    Scenario("no UDP, public", "direct", no_udp_one_public),
    Scenario("no UDP, no UDP", "relay", no_udp_relay),
    Scenario("no UDP, no UDP, no TURN", "origin", no_udp_origin),
)


def _without_udp(world: World) -> list[Place]:
    places = []
    for name in ("giver", "taker"):
        home = world.net.home(f"{name}-nat", Nat.PORT_RESTRICTED)
        home.block_udp()
        host = world.net.lab.host(name, home.inside, str(home.inside.network[2]))
        places.append(world.place(host))
    return places
