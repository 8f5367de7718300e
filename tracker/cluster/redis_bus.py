"""A cluster's bus on Redis: one script for counts and presence, one channel for each process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import (
    CLUSTER_BEAT_S,
    CLUSTER_COUNT_MAX,
    CLUSTER_FORGET_S,
    CLUSTER_MAX_PROCESSES,
    CLUSTER_SWARM_TTL_S,
    CLUSTER_TIMEOUT_S,
)
from dreamer.tracker.cluster import script
from dreamer.tracker.cluster.bus import BusError, Reading, Seen
from dreamer.tracker.public.elsewhere import ProcessId
from dreamer.tracker.public.wire import Counts

_read = msgspec.msgpack.Decoder(
    tuple[list[tuple[str, int, bool]], list[list[tuple[str, str]]]]
).decode


class RedisBus:
    """One process' connections to Redis; see ``bus.Bus``."""

    def __init__(self, url: str) -> None:
        """``url`` is ``redis://``, ``rediss://`` (TLS) or ``unix://``, with a password or not.

        Raises:
            InputError: it is something else.
        """
        try:
            self._redis = _client(url, CLUSTER_TIMEOUT_S)
            # It waits for letters as long as it takes, and for nothing else.
            self._ear = _client(url, None)
        except ValueError as error:
            raise InputError(
                f"redis must be a URL, as redis://127.0.0.1:6379, not {shown(url)!r}"
            ) from error
        self._trade = self._redis.register_script(script.TRADE)
        self._me = ProcessId("")
        self._letters: PubSub | None = None

    async def open(self, me: ProcessId) -> None:
        """Connect, and open this process' letterbox; what an earlier connection left is closed."""
        await self.close()
        self._me = me
        with _told_apart():
            async with asyncio.timeout(CLUSTER_TIMEOUT_S):
                self._letters = self._ear.pubsub()
                await self._letters.subscribe(script.CHANNEL + me)
                # Only once Redis has confirmed it does the list say that the letterbox is open.
                while await self._letters.get_message(timeout=CLUSTER_TIMEOUT_S) is None:
                    pass

    async def trade(self, tell: Mapping[InfoHash, Counts], ask: Sequence[InfoHash]) -> Reading:
        """Write down this process' own counts, and then read everybody's, in one round trip."""
        arguments: list[str | int] = [
            self._me,
            int(CLUSTER_FORGET_S * 1000),
            CLUSTER_MAX_PROCESSES,
            int(CLUSTER_SWARM_TTL_S),
            len(ask),
        ]
        asked = dict.fromkeys(ask)
        for info_hash in (*asked, *(each for each in tell if each not in asked)):
            arguments += info_hash.hex(), _field(tell.get(info_hash))
        with _told_apart():
            async with asyncio.timeout(CLUSTER_TIMEOUT_S):
                reply = await self._trade(keys=[script.PROCESSES], args=arguments)
            seen, swarms = _read(reply)
        return Reading(
            tuple(Seen(ProcessId(name), ms / 1000, listening) for name, ms, listening in seen),
            {each: _counts(told) for each, told in zip(asked, swarms, strict=True)},
        )

    async def send(self, envelopes: Sequence[tuple[ProcessId, bytes]]) -> None:
        """Put envelopes into letterboxes; one that nobody empties loses them."""
        pipeline = self._redis.pipeline(transaction=False)
        for to, said in envelopes:
            pipeline.publish(script.CHANNEL + to, said)
        with _told_apart():
            async with asyncio.timeout(CLUSTER_TIMEOUT_S):
                await pipeline.execute()

    async def hear(self) -> bytes:
        """Return the next envelope for this process."""
        if self._letters is None:
            raise BusError("not connected to Redis")
        with _told_apart():
            while True:
                said = await self._letters.get_message(
                    ignore_subscribe_messages=True, timeout=CLUSTER_BEAT_S
                )
                if said is not None and isinstance(said["data"], bytes):
                    return said["data"]

    async def leave(self) -> None:
        """Take this process off the list."""
        with _told_apart():
            async with asyncio.timeout(CLUSTER_TIMEOUT_S):
                await self._redis.zrem(script.PROCESSES, self._me)

    async def close(self) -> None:
        """Let go of the connections, whatever state they are in."""
        letters, self._letters = self._letters, None
        for closing in (letters, self._ear, self._redis):
            if closing is not None:
                with contextlib.suppress(RedisError, OSError, TimeoutError):
                    async with asyncio.timeout(CLUSTER_TIMEOUT_S):
                        await closing.aclose()


def shown(url: str) -> str:
    """Return a URL as it may be shown: without the password in it."""
    try:
        parts = urlsplit(url)
        if parts.password is None:
            return url
        return parts._replace(netloc="…@" + parts.netloc.rpartition("@")[2]).geturl()
    except ValueError:
        return "…"


def _client(url: str, timeout_s: float | None) -> Redis:
    # It doesn't try again by itself: who waits for an announce's reply would wait for that, too.
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=CLUSTER_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        # With version 3 of its protocol, the client formats every letter for a log nobody keeps.
        protocol=2,
    )


def _field(counts: Counts | None) -> str:
    if counts is None:
        return script.UNCHANGED
    if counts == Counts(0, 0, 0):
        return script.REMOVED
    return f"{counts.complete},{counts.incomplete},{counts.downloaded}"


def _counts(told: list[tuple[str, str]]) -> dict[ProcessId, Counts]:
    found = {ProcessId(process): _parse(process, field) for process, field in told}
    return {process: counts for process, counts in found.items() if counts is not None}


def _parse(process: str, field: str) -> Counts | None:
    numbers = field.split(",") if process != script.GONE else ["0", "0", field]
    # Long numbers aren't looked at: the time to read one grows with the square of its length.
    if len(numbers) != 3 or not all(each.isdecimal() and len(each) <= 10 for each in numbers):
        return None
    complete, incomplete, downloaded = (min(int(each), CLUSTER_COUNT_MAX) for each in numbers)
    return Counts(complete, incomplete, downloaded)


@contextmanager
def _told_apart() -> Iterator[None]:
    """Turn whatever goes wrong with Redis into BusError, and nothing else."""
    try:
        yield
    except TimeoutError as error:
        raise BusError(f"no reply from Redis within {CLUSTER_TIMEOUT_S:.0f} s") from error
    except (RedisError, OSError, msgspec.DecodeError, ValueError) as error:
        raise BusError(str(error) or type(error).__name__) from error
