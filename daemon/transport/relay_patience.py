"""Holds ways through a relay back for a moment, so that a straight one is not lost to chance.

aioice nominates the first pair of addresses whose check comes back, and keeps it. A relay is
nearer than many a peer: one lost packet, or a NAT that takes a second check to open, and a link
that could go straight would stay on the relay, and eat its budget, for as long as it lives. So
pairs with a relay in them wait a little while others may still work (RFC 8445, 8.1.1: when to stop
checking is the agent's to decide).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from aioice import Connection as IceConnection
from aioice.ice import CandidatePair

from dreamer.daemon.transport.relay_meter import is_relayed
from dreamer.protocol.limits import RELAY_PATIENCE_S


def prefer_straight_ways(ice: IceConnection, clock: Callable[[], float] = time.monotonic) -> None:
    """Have a connection that has not begun its checks begin them with the ways past relays."""
    check, start = ice._check_periodic, ice.check_start_task
    began_at: list[float] = []

    def holding() -> bool:
        if not began_at:
            began_at.append(clock())
        may_work = any(_may_work(pair) and not is_relayed(pair) for pair in ice._check_list)
        return may_work and clock() < began_at[0] + RELAY_PATIENCE_S

    def check_periodic() -> bool:
        if ice._check_list_done or not holding():
            return check()
        everything = ice._check_list
        ice._check_list = [pair for pair in everything if not is_relayed(pair)]
        try:
            check()
        finally:
            ice._check_list = everything
        # What waits is still to be checked.
        return True

    def check_start_task(pair: CandidatePair) -> None:
        # A check that comes in is answered at once; one of ours in return has time.
        if not (is_relayed(pair) and holding()):
            start(pair)

    vars(ice).update(_check_periodic=check_periodic, check_start_task=check_start_task)


def _may_work(pair: CandidatePair) -> bool:
    return pair.state is not CandidatePair.State.FAILED
