"""What the planner costs: microseconds for each block, and the share of a core at 900 blocks/s.

A model of 14,000 blocks (14 GB), from one source and from many, whole ones and downloaders, by
the steps that a pull takes for each block: bytes come, the block is verified, more is asked for.
The last column repeats it with all timers looked at for every block, as pulls once did.

    python -m dreamer.simulations.bench.planner
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import deque
from random import Random

from dreamer.protocol.content.layout import Layout
from dreamer.protocol.limits import BLOCK_BYTES
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.download import Download
from dreamer.protocol.swarm.vocabulary import (
    BlockVerified,
    BytesArrived,
    Command,
    Fetch,
    Lane,
    SourceId,
    SourceJoined,
    Tick,
)

BLOCKS_PER_S = 900.0
TICK_EVERY_BLOCKS = 90


class Pull:
    """One planner and sources that each bring a block in turn. Nothing is hashed or sent."""

    def __init__(self, blocks: int, sources: int, downloaders: int) -> None:
        self._queue: deque[tuple[SourceId, int, deque[int]]] = deque()
        self._core = Download(
            *(Layout([blocks * BLOCK_BYTES]), 0, itertools.count(1), Random(1), 0.0),
            own=SourceId("own"),
        )
        for number in range(sources + downloaders):
            whole = number < sources
            # What other downloaders hold is half of it, each another half.
            held = bitfield.full(blocks) if whole else Random(number).getrandbits(blocks)
            joined = SourceJoined(SourceId(f"s{number}"), Lane.DIRECT, held, not whole)
            self._take(self._core.handle(joined, 0.0))

    def _take(self, commands: list[Command]) -> None:
        for one in commands:
            if isinstance(one, Fetch):
                blocks = deque(range(one.first, one.first + one.count))
                self._queue.append((one.source, one.request, blocks))

    def bring(self, count: int, *, timers_each_block: bool) -> float:
        """Bring blocks at ``BLOCKS_PER_S``, virtually; return seconds of CPU for each."""
        begin, brought = time.process_time(), 0
        while self._queue and brought < count:
            source, request, blocks = self._queue.popleft()
            now = brought / BLOCKS_PER_S
            block = blocks.popleft()
            if blocks:
                self._queue.append((source, request, blocks))
            self._core.handle(BytesArrived(source, BLOCK_BYTES), now)
            self._take(self._core.handle(BlockVerified(source, request, block), now))
            if timers_each_block:
                self._core.busy_lanes()
                self._core.next_wake(now)
            elif brought % TICK_EVERY_BLOCKS == 0:
                self._take(self._core.handle(Tick(), now))
            brought += 1
        return (time.process_time() - begin) / max(brought, 1)


def main() -> None:
    """Measure and print a table."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--blocks", type=int, default=14_000, help="blocks of the model")
    options.add_argument("--bring", type=int, default=5_000, help="blocks to bring")
    asked = options.parse_args()
    print("whole  downloaders  us/block  of a core  with timers each block")
    for whole, downloaders in ((1, 0), (16, 0), (64, 0), (1, 8), (1, 63)):
        once, each = (
            Pull(asked.blocks, whole, downloaders).bring(asked.bring, timers_each_block=timers)
            for timers in (False, True)
        )
        share = f"{once * BLOCKS_PER_S:6.1%}"
        print(
            f"{whole:5}  {downloaders:11}  {once * 1e6:8.1f}  {share:>9}  {each / once:.1f} times"
        )


if __name__ == "__main__":
    main()
