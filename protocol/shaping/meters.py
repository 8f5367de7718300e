"""The buckets of one node, in one direction: one for all lanes together, and one for each lane."""

from __future__ import annotations

from dreamer.protocol.shaping.bucket import ByteBucket
from dreamer.protocol.shaping.rates import Limits
from dreamer.protocol.swarm.vocabulary import Lane


class Buckets:
    """What may go one way. Times are steady seconds."""

    def __init__(self, lan_exempt: bool) -> None:
        self._lan_exempt = lan_exempt
        self._total = ByteBucket()
        self._lanes = {lane: ByteBucket() for lane in Lane}
        self._unlimited = True

    def set_rates(self, total: float | None, lanes: dict[Lane, float | None], now: float) -> None:
        """Go on with other limits, in bytes per second."""
        self._total.set_rate(total, now)
        for lane, bucket in self._lanes.items():
            bucket.set_rate(lanes.get(lane), now)
        buckets = (self._total, *self._lanes.values())
        self._unlimited = all(bucket.bytes_per_s is None for bucket in buckets)

    def rate(self, lane: Lane, lan: bool) -> float:
        """Return the bytes per second that a lane may have; infinity without a limit."""
        if self._unlimited:
            return float("inf")
        rates = (bucket.bytes_per_s for bucket in self._of(lane, lan))
        return min((rate for rate in rates if rate is not None), default=float("inf"))

    def level(self, lane: Lane, lan: bool, now: float) -> float:
        """Return the bytes that may go now over a lane; infinity without a limit."""
        if self._unlimited:
            return float("inf")
        return min(bucket.level(now) for bucket in self._of(lane, lan))

    def take(self, lane: Lane, lan: bool, size_bytes: float, now: float) -> None:
        """Count bytes that go over a lane; less than 0: they did not go after all."""
        if self._unlimited:
            # Whoever sets a limit begins with a full bucket.
            return
        for bucket in self._of(lane, lan):
            bucket.take(size_bytes, now)

    def ready_at(self, lane: Lane, lan: bool, now: float) -> float:
        """Return when something may go over a lane."""
        if self._unlimited:
            return now
        return max(bucket.ready_at(now) for bucket in self._of(lane, lan))

    # What goes before all else, as ``ByteBucket`` has it

    def promise(self, lane: Lane, lan: bool, size_bytes: float, now: float) -> None:
        """Count bytes that are to go before others; less than 0: they won't after all."""
        for bucket in self._of(lane, lan):
            bucket.promise(size_bytes, now)

    def keep(self, lane: Lane, lan: bool, size_bytes: float) -> None:
        """Note that promised bytes go now."""
        for bucket in self._of(lane, lan):
            bucket.keep(size_bytes)

    def promised_level(self, lane: Lane, lan: bool, now: float) -> float:
        """Return how many promised bytes may go now over a lane; infinity without a limit."""
        return min(bucket.promised_level(now) for bucket in self._of(lane, lan))

    def promised_ready_at(self, lane: Lane, lan: bool, now: float) -> float:
        """Return when promised bytes may go over a lane."""
        return max(bucket.promised_ready_at(now) for bucket in self._of(lane, lan))

    def _of(self, lane: Lane, lan: bool) -> list[ByteBucket]:
        # A limit set for a lane by its name is meant, wherever the lane leads.
        exempt = lan and self._lan_exempt
        return [self._lanes[lane]] if exempt else [self._lanes[lane], self._total]


class Shaping:
    """A node's limits both ways, as they are at the time of day."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.up = Buckets(limits.lan_exempt)
        self.down = Buckets(limits.lan_exempt)

    def set_time(self, minute: int, now: float) -> None:
        """Take the limits of a minute of the day, local time."""
        total = self._limits.at(minute)
        by_lane = {lane: self._limits.of(lane) for lane in Lane}
        self.up.set_rates(total.up, {lane: one.up for lane, one in by_lane.items()}, now)
        self.down.set_rates(total.down, {lane: one.down for lane, one in by_lane.items()}, now)

    def of_lane(self, lane: Lane, minute: int) -> tuple[float | None, float | None]:
        """Return the limits (up, down) of a lane that keeps them itself, bytes per second."""
        total, own = self._limits.at(minute), self._limits.of(lane)
        return _least(total.up, own.up), _least(total.down, own.down)


def _least(one: float | None, other: float | None) -> float | None:
    known = [rate for rate in (one, other) if rate is not None]
    return min(known) if known else None
