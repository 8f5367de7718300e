"""Which STUN and TURN servers a link is told of."""

from __future__ import annotations

import pytest

from dreamer.daemon.links.ice import IceSettings, RoomIce

UDP = {"urls": "turn:relay.lab:3478?transport=udp", "username": "u", "credential": "p"}
BARE = {"urls": "turn:relay.lab", "username": "u", "credential": "p"}
TCP = {"urls": "turn:relay.lab:3478?transport=tcp", "username": "u", "credential": "p"}
TLS = {"urls": "turns:relay.lab:5349", "username": "u", "credential": "p"}
STUN = {"urls": "stun:stun.lab:3478"}


def ice(*lent: dict[str, str], **settings) -> RoomIce:
    return RoomIce(IceSettings(**settings), lambda: lent)


def test_servers_of_the_owner_come_before_those_lent():
    assert ice(UDP, servers=(STUN, TCP)).servers == (STUN, TCP, UDP)


@pytest.mark.parametrize(
    ("lent", "address"), [(UDP, "stun:relay.lab:3478"), (BARE, "stun:relay.lab")]
)
def test_relay_over_udp_is_asked_for_the_public_address_too(lent, address):
    assert ice(lent).servers == (lent, {"urls": address})


@pytest.mark.parametrize("lent", [TCP, TLS])
def test_relay_over_tcp_can_not_be_asked_for_addresses(lent):
    assert ice(lent).servers == (lent,)


def test_stun_server_of_the_owner_is_enough():
    assert ice(UDP, servers=(STUN,)).servers == (STUN, UDP)


def test_node_that_uses_relays_only_asks_nobody_for_its_address():
    assert ice(UDP, relay_only=True).servers == (UDP,)


def test_node_that_uses_no_relays_is_lent_none():
    found = ice(UDP, servers=(STUN,), relays=False)
    assert found.servers == (STUN,)
    assert not found.relays
