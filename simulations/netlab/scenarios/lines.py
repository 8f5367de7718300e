"""Bad lines between two public hosts: what direct and webrtc make of them."""

from __future__ import annotations

from functools import partial

from dreamer.simulations.netlab.pair import Outcome
from dreamer.simulations.netlab.weather import Weather, bursty_loss, random_loss, round_trip
from dreamer.simulations.netlab.world import WEBRTC_ALONE, Scenario, World


def over(world: World, weather: Weather, lane: str, mib: int) -> Outcome:
    """Pull over a line with that weather, by that lane alone."""
    settings = WEBRTC_ALONE if lane == "webrtc" else {}
    giver = world.place(world.net.host("giver"), settings)
    taker = world.place(world.net.host("taker", weather), settings)
    with world.pair(giver, taker, mib=mib) as pair:
        pair.linked()
        outcome = pair.pull()
    return Outcome(**{**vars(outcome), "note": f"{outcome.mib_s:.2f} MiB/s"})


_LINES = (
    ("2% loss", random_loss(0.02), 8),
    ("2% loss in bursts", bursty_loss(), 8),
    ("200 ms round trip", round_trip(0.2), 8),
)

LINES = tuple(
    Scenario(f"{name}, {lane}", lane, partial(over, weather=weather, lane=lane, mib=mib))
    for name, weather, mib in _LINES
    for lane in ("direct", "webrtc")
)
