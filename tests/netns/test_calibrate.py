"""The calibration's real side: lines that are filled, daemons that pull, logs that are read."""

from __future__ import annotations

import pytest

from dreamer.simulations.bench.fanout_clients.star import MIB, star
from dreamer.simulations.calibration.lines import busy_lines
from dreamer.simulations.calibration.real import fan_out
from dreamer.simulations.calibration.virtual import Overheads, simulated

pytestmark = [pytest.mark.e2e, pytest.mark.root, pytest.mark.netns, pytest.mark.timeout(180)]

NODES = 2
SIZE = 16 * MIB
MBIT = 40.0
LINE_BYTES_S = MBIT * 1e6 / 8


def test_real_and_simulated_fan_out_are_the_same_swarm(networks, tmp_path):
    # The paths of Unix sockets must be short.
    with star(tmp_path, SIZE, NODES, MBIT) as network:
        lines = busy_lines(network, MBIT, seconds=2.0)
        run = fan_out(network)
    # Headers and acknowledgements take some of a line, and nobody gets more than there is.
    assert 0.6 < lines.share < 1.0
    assert lines.latency_ms > 0.0
    assert set(run.links) == {(0, 1), (0, 2), (1, 2)}
    for one in run.times:
        assert 0.0 <= one.began_s <= one.resolved_s <= one.receipt_s
        assert one.first_s <= one.all_s <= one.receipt_s
    assert min(run.completions) > SIZE / LINE_BYTES_S * 0.9
    virtual = simulated(run, SIZE, MBIT, Overheads(lines, 0.05), seed=1)
    assert len(virtual) == NODES
    assert min(virtual) > SIZE / LINE_BYTES_S
