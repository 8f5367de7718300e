"""What is read out of real daemons' logs, and the simulator's run beside it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from dreamer.protocol.limits import DIRECT_HOLD_S
from dreamer.simulations.calibrate import Calibration, Round, document, table
from dreamer.simulations.calibration.lines import BusyLines
from dreamer.simulations.calibration.real import Fanned, Times, finish_s, usable_links
from dreamer.simulations.calibration.virtual import Overheads, simulated

MIB = 2**20
ZERO = datetime(2026, 11, 21, 20, 22, 7).astimezone().timestamp()
LOG = """dreamerd is ready: /x/run/dreamerd.sock
2026-11-21 20:22:07,212 INFO dreamer.daemon.main node aaaaaaaa (d8)
2026-11-21 20:22:09,415 INFO dreamer.daemon.links.room_links linked to bbbbbbbb d3 (webrtc)
2026-11-21 20:22:09,593 INFO dreamer.daemon.links.room_links linked to cccccccc d0 (webrtc)
2026-11-21 20:22:09,700 INFO dreamer.daemon.links.room_links linked to dddddddd d1 (webrtc)
2026-11-21 20:22:09,600 INFO dreamer.daemon.direct.taking_side direct connection to bbbbbbbb is up
2026-11-21 20:22:11,920 INFO dreamer.daemon.direct.taking_side direct connection to cccccccc is up
2026-11-21 20:22:19,415 INFO dreamer.daemon.links.room_links linked to bbbbbbbb d3 (webrtc)
"""


def fanned(count: int, begin: float = 0.5, links=None) -> Fanned:
    """Return a real run of which every pull knew after ``begin`` what to fetch."""
    times = [Times(0.0, begin, begin + 0.2, 9.9, 10.0 + number) for number in range(count)]
    return Fanned(tuple(times), links or {})


def overheads(share: float = 1.0, finish: float = 0.05, latency_ms: float = 1.0) -> Overheads:
    return Overheads(BusyLines(share, latency_ms), finish)


def test_link_is_of_use_from_its_direct_connection_on_or_after_the_wait_for_one(tmp_path):
    log = tmp_path / "d8.log"
    log.write_text(LOG)
    found = usable_links(log, ZERO)
    assert found["bbbbbbbb"] == pytest.approx(2.6, abs=1e-3)
    assert found["cccccccc"] == pytest.approx(4.92, abs=1e-3)
    assert found["dddddddd"] == pytest.approx(2.7 + DIRECT_HOLD_S, abs=1e-3)


def test_completions_are_counted_from_each_ones_command():
    run = fanned(2)
    late = replace(run.times[0], began_s=4.0)
    assert replace(run, times=(late, run.times[1])).completions == [6.0, 11.0]
    assert finish_s([run]) == pytest.approx(0.6)


def test_simulated_fan_out_keeps_above_what_the_lines_allow():
    seconds = simulated(fanned(3), 24 * MIB, 80.0, overheads(), seed=1)
    assert len(seconds) == 3
    # 24 MiB at 10 MB/s, begun after half a second.
    assert all(0.5 + 24 * MIB / 10e6 < one < 6.0 for one in seconds)
    assert simulated(fanned(3), 24 * MIB, 80.0, overheads(), seed=1) == seconds


def test_each_overhead_that_was_measured_counts():
    plain = max(simulated(fanned(2), 24 * MIB, 80.0, overheads(), 1))
    narrow = max(simulated(fanned(2), 24 * MIB, 80.0, overheads(share=0.8), 1))
    assert narrow - 0.5 == pytest.approx((plain - 0.5) / 0.8, rel=0.1)
    assert max(simulated(fanned(2), 24 * MIB, 80.0, overheads(finish=1.05), 1)) > plain + 0.9
    assert max(simulated(fanned(2, begin=2.5), 24 * MIB, 80.0, overheads(), 1)) == pytest.approx(
        plain + 2.0, rel=0.05
    )
    slow_links = {(0, 1): 3.0, (0, 2): 3.0}
    assert max(simulated(fanned(2, links=slow_links), 24 * MIB, 80.0, overheads(), 1)) > plain + 2.0


def test_error_is_of_the_median_and_of_the_last():
    one = Round(real_s=(10.0, 10.0, 20.0), runs_s=((11.0, 11.0, 21.0), (11.0, 13.0, 25.0)))
    assert one.simulated_s == (11.0, 12.0, 23.0)
    assert one.median_error == pytest.approx(0.2)
    assert one.last_error == pytest.approx(0.15)
    found = Calibration(8.0, overheads(0.93), (one,))
    assert not found.good
    assert document(found)["median_error"] == pytest.approx(0.2)
    assert "error of the median +20.0% (target: within 10%)" in table(found)
    near = Round(real_s=(10.0, 10.0, 20.0), runs_s=((10.5, 9.5, 21.0),))
    assert Calibration(8.0, overheads(), (near,)).good
