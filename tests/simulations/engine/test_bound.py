"""The lower bound of a crowd is the most that its slowest line, its givers or all lines allow."""

import pytest

from dreamer.simulations.engine.bound import bound_s
from dreamer.simulations.engine.world import World
from dreamer.simulations.scenario.model import Group, ModelSpec, OriginSpec, Scenario, Wish

MODELS = (ModelSpec("base", 1.0), ModelSpec("more", 2.0))


def bound(*groups, origin=None):
    return bound_s(World(Scenario("s", "?", MODELS, groups, origin=origin)))


def takers(count=2, *, up=100.0, down=100.0, wants=("base",), name="takers", to_s=0.0):
    return Group(name, count, up, down, pulls=tuple(Wish(each, 0.0, to_s) for each in wants))


FAST = OriginSpec(up_mbit=1e6, holds=("base", "more"))


def test_slowest_download_bounds():
    assert bound(takers(), takers(1, down=50.0, name="slow"), origin=FAST) == 160.0


def test_one_copy_from_who_holds_it_bounds():
    seed = Group("seed", 1, up_mbit=10.0, holds=("base",))
    assert bound(seed, takers()) == 800.0


def test_all_copies_over_all_uploads_bound():
    seed = Group("seed", 1, up_mbit=100.0, holds=("base",))
    assert bound(seed, takers(9, up=10.0)) == pytest.approx(9 * 8e9 / (100e6 + 90e6))


def test_machine_that_wants_several_models_at_once_needs_time_for_all():
    assert bound(takers(wants=("base", "more")), origin=FAST) == 240.0


def test_models_wanted_at_other_times_do_not_add_up():
    later = takers(1, wants=("more",), name="later", to_s=60.0)
    assert bound(takers(), later, origin=FAST) == 160.0


def test_nobody_who_gives_is_no_bound():
    assert bound(takers()) == 0.0
