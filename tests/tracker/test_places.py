from __future__ import annotations

from dreamer.tracker.places import Places


def test_places_of_one_address_are_counted_apart_from_others():
    places = Places(2)
    mine = [places.take("10.0.0.1") for _ in range(3)]
    assert mine[0].over()
    assert not mine[0].over(times=2)
    assert not places.take("10.0.0.2").over()
    mine[0].give_back()
    assert not places.take("10.0.0.2").over()
    assert not mine[1].over()


def test_addresses_of_one_ipv6_site_share_their_places():
    places = Places(1)
    places.take("2001:db8::1")
    assert places.take("2001:db8::2:3").over()
    assert not places.take("2001:db8:0:1::1").over()


def test_address_that_has_left_is_forgotten():
    places = Places(1)
    place = places.take("10.0.0.1")
    place.give_back()
    assert places.take("10.0.0.1") is not place


def test_nought_stands_for_any_number():
    places = Places(0)
    for _ in range(1000):
        place = places.take("10.0.0.1")
    assert not place.over()
