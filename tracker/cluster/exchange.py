"""One process' part in a cluster: it tells its counts, learns those of others, carries letters.

An announce that changes a swarm's counts waits for one round trip, in which this process writes
its own counts and then reads everybody's; all that is asked meanwhile goes into the next. Any
other announce goes by what was learnt within ``CLUSTER_CACHE_S``. When the bus fails, those who
wait go on at once, and the process is alone until it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from itertools import islice
from random import Random

from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import (
    CLUSTER_BATCH_SWARMS,
    CLUSTER_BEAT_S,
    CLUSTER_CHANGES_MAX_SWARMS,
    CLUSTER_FLUSH_S,
    CLUSTER_LINGER_S,
    CLUSTER_REFRESH_S,
    CLUSTER_RETRY_BASE_S,
    CLUSTER_RETRY_MAX_S,
    TRACKER_MAX_OFFERS,
)
from dreamer.tracker.cluster.bus import Bus, BusError, Reading
from dreamer.tracker.cluster.letters import (
    LetterError,
    answer_letter,
    envelope,
    offers_letter,
    open_envelope,
    read_letter,
)
from dreamer.tracker.cluster.outgoing import Outgoing
from dreamer.tracker.cluster.questions import Questions, Round
from dreamer.tracker.cluster.shares import candidates, share_out
from dreamer.tracker.cluster.view import View
from dreamer.tracker.public.elsewhere import Bundle, Here, ProcessId
from dreamer.tracker.public.wire import Answer, Counts, Offer, PeerId

log = logging.getLogger(__name__)

PROCESS_ID_BYTES = 8


class Exchange:
    """The rest of the cluster, as this process sees it: see ``elsewhere.Elsewhere``."""

    def __init__(self, bus: Bus, rng: Random, clock: Callable[[], float] = time.monotonic) -> None:
        self.me = ProcessId(secrets.token_hex(PROCESS_ID_BYTES))
        self._bus = bus
        self._rng = rng
        self._clock = clock
        self._view = View(self.me)
        self._changed: dict[InfoHash, None] = {}
        self._questions = Questions()
        self._asked = asyncio.Event()
        self._outgoing = Outgoing()
        self._joined = False
        self._refresh_at = 0.0
        self._here: Here | None = None
        self._started = asyncio.Event()
        self.bad_letters = 0

    @property
    def joined(self) -> bool:
        """Whether this process has the others; False while it goes on alone."""
        return self._joined

    def processes(self) -> Sequence[ProcessId]:
        """Return the other processes that live."""
        return self._view.alive

    def changed(self, info_hash: InfoHash) -> None:
        """Note that a swarm's counts in this process aren't what the others know."""
        self._changed[info_hash] = None
        if len(self._changed) > CLUSTER_CHANGES_MAX_SWARMS:
            # Only a process that has been alone for long gets here.
            del self._changed[next(iter(self._changed))]

    def when_known(self, info_hashes: Sequence[InfoHash], then: Callable[[], None]) -> None:
        """Call ``then`` as soon as it is known who else is in these swarms."""
        now = self._clock()
        if (
            not self._joined
            or self._questions.full
            or all(self._settled(each, now) for each in info_hashes)
        ):
            then()
            return
        self._questions.put(info_hashes, then)
        self._asked.set()

    def total(self, info_hash: InfoHash, here: Counts) -> Counts:
        """Return a swarm's counts over all processes; ``here`` are this one's."""
        return self._view.total(info_hash, here)

    def send_offers(
        self, info_hash: InfoHash, sender: PeerId, seeding: bool, offers: Sequence[Offer], here: int
    ) -> tuple[Offer, ...]:
        """Send away what by chance falls to peers elsewhere; return the offers for those here."""
        others = {
            process: candidates(counts, seeding)
            for process, counts in self._view.others(info_hash).items()
        }
        staying, leaving = share_out(len(offers), here, others, self._rng)
        rest = iter(offers)
        kept = tuple(islice(rest, staying))
        for process, count in leaving.items():
            bundle = Bundle(info_hash, sender, seeding, tuple(islice(rest, count)))
            self._outgoing.put(process, offers_letter(self.me, bundle))
        return kept

    def send_answer(self, to: ProcessId, answer: Answer) -> None:
        """Send an answer to the process that the offer came from."""
        if self._joined:
            self._outgoing.put(to, answer_letter(answer))

    async def started(self) -> None:
        """Return once this process has joined the others, or has found that it can't now."""
        await self._started.wait()

    async def run(self, here: Here) -> None:
        """Take part until cancelled; then leave the cluster."""
        self._here = here
        failures = 0
        try:
            while True:
                reason = await self._take_part()
                failures = 0 if self._joined else failures + 1
                self._part(reason, failures)
                await asyncio.sleep(self._pause_s(failures))
        finally:
            self._joined = False
            self._release(self._questions.take())
            with contextlib.suppress(BusError):
                await self._bus.leave()
            await self._bus.close()

    async def _take_part(self) -> str:
        """Return why it came to an end."""
        reason = ""
        try:
            await self._bus.open(self.me)
            await self._join()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._trade_for_ever())
                group.create_task(self._send_for_ever())
                group.create_task(self._hear_for_ever())
        except* BusError as failed:
            reason = str(failed.exceptions[0])
        except* Exception as failed:
            # A bug of ours costs the cluster, for a moment, and not the tracker.
            log.exception("the exchange with other trackers broke", exc_info=failed.exceptions[0])
            reason = "an error of its own"
        return reason

    async def _join(self) -> None:
        await self._trade(Round())
        self._joined = True
        self._started.set()
        self._tell_all()
        others = len(self.processes())
        log.info("tracker process %s shares its swarms with %d others", self.me, others)

    def _part(self, reason: str, failures: int) -> None:
        self._view.clear()
        self._outgoing.clear()
        if self._joined or failures == 1:
            log.warning("this tracker process goes on alone until Redis is there: %s", reason)
        self._joined = False
        self._started.set()
        while self._questions:
            self._release(self._questions.take())

    def _pause_s(self, failures: int) -> float:
        longest = min(CLUSTER_RETRY_MAX_S, CLUSTER_RETRY_BASE_S * 2.0 ** min(failures, 16))
        return longest * self._rng.uniform(0.5, 1.0)

    async def _trade_for_ever(self) -> None:
        beat_at = self._clock()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLUSTER_FLUSH_S):
                    await self._asked.wait()
            self._asked.clear()
            now = self._clock()
            if now >= self._refresh_at:
                self._tell_all()
            if self._questions or self._changed or now >= beat_at:
                await self._trade(self._questions.take())
                beat_at = now + CLUSTER_BEAT_S
            if self._questions or len(self._changed) >= CLUSTER_BATCH_SWARMS:
                self._asked.set()

    async def _trade(self, question: Round) -> None:
        """Go once to and fro; whoever waits is released, even when it fails."""
        tell = self._news(question)
        try:
            reading = await self._bus.trade(tell, list(question.asked))
            self._learn(reading)
        except BaseException:
            self._changed.update(dict.fromkeys(tell))
            raise
        finally:
            self._release(question)

    def _learn(self, reading: Reading) -> None:
        now = self._clock()
        reached = self._view.saw(reading.seen)
        for info_hash, told in reading.swarms.items():
            self._view.learn(info_hash, told, now)
        if not reached:
            raise BusError("what is sent to this process doesn't arrive")

    def _news(self, question: Round) -> dict[InfoHash, Counts]:
        assert self._here is not None
        # What is asked for goes first: own counts are written before the others' are read.
        first = [each for each in question.asked if each in self._changed]
        rest = islice(self._changed, max(0, CLUSTER_BATCH_SWARMS - len(first)))
        news = {each: self._here.counts(each) for each in (*first, *rest)}
        for each in news:
            del self._changed[each]
        return news

    def _tell_all(self) -> None:
        assert self._here is not None
        # Redis may have lost everything, and forgets by itself what isn't told for long.
        self._changed.update(dict.fromkeys(self._here.info_hashes()))
        self._refresh_at = self._clock() + CLUSTER_REFRESH_S

    def _settled(self, info_hash: InfoHash, now: float) -> bool:
        if not self._view.knows(info_hash, now):
            return False
        if info_hash not in self._changed:
            return True
        # Somebody came or went. Where there are plenty, that can wait for the next flush.
        known = self._view.total(info_hash, Counts(0, 0, 0))
        return known.complete + known.incomplete > TRACKER_MAX_OFFERS

    def _release(self, question: Round) -> None:
        loop = asyncio.get_running_loop()
        for then in question.then:
            # From the loop: if one of them has a bug, the others don't suffer for it.
            loop.call_soon(then)

    async def _send_for_ever(self) -> None:
        while True:
            await self._outgoing.filled()
            # Carrying costs by the envelope: what comes in the next moments goes along.
            await asyncio.sleep(CLUSTER_LINGER_S)
            letters = self._outgoing.take()
            await self._bus.send([(to, envelope(each)) for to, each in letters.items()])

    async def _hear_for_ever(self) -> None:
        while True:
            said = await self._bus.hear()
            try:
                letters = open_envelope(said)
            except LetterError as error:
                self._refuse(error)
                continue
            for letter in letters:
                try:
                    self._take(letter)
                except LetterError as error:
                    self._refuse(error)

    def _take(self, letter: bytes) -> None:
        assert self._here is not None
        said = read_letter(letter)
        if isinstance(said, Answer):
            self._here.take_answer(said)
        else:
            self._here.take_offers(*said)

    def _refuse(self, error: LetterError) -> None:
        self.bad_letters += 1
        log.debug("a letter that can't be read: %s", error)
