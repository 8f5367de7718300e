"""What the tracker says of itself over HTTP: public swarms only, never a word about rooms."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from aiohttp import web

from dreamer.tracker.company import Company
from dreamer.tracker.public.swarms import Swarms
from dreamer.tracker.public.tcp_swarms import TcpSwarms
from dreamer.tracker.stats_page import HEADERS, page, wants_page

VERSION = version("dreamer")


@dataclass
class Tally:
    """Counts since the start; ``sockets`` is how many public ones are open now."""

    sockets: int = 0
    messages: int = 0
    announces: int = 0
    offers: int = 0
    answers: int = 0
    refused: int = 0


def counts_of(swarms: Swarms, tally: Tally) -> dict[str, int]:
    """Return everything that is counted, by name."""
    return {
        "swarms": len(swarms),
        "seeders": sum(len(each.seeds) for each in swarms),
        "leechers": sum(len(each.leechers) for each in swarms),
        **vars(tally),
    }


_METRICS = (
    ("swarms", "gauge", "Public swarms with at least one peer."),
    ("seeders", "gauge", "Peers that have everything, over all public swarms."),
    ("leechers", "gauge", "Peers that lack something, over all public swarms."),
    ("tcp_swarms", "gauge", "Public swarms of peers that are dialled over TCP."),
    ("tcp_seeders", "gauge", "Peers among them that have everything."),
    ("tcp_leechers", "gauge", "Peers among them that lack something."),
    ("sockets", "gauge", "Open websockets of public clients."),
    ("messages", "counter", "Messages received from public clients."),
    ("announces", "counter", "Announces accepted."),
    ("offers", "counter", "Offers passed on."),
    ("answers", "counter", "Answers passed on."),
    ("refused", "counter", "Messages answered with a failure."),
)


class StatsHandler:
    """Answers ``/stats``, ``/metrics``, ``/health`` and ``/ready``."""

    def __init__(
        self,
        swarms: Swarms,
        tcp_swarms: TcpSwarms,
        tally: Tally,
        probe: Callable[[], None],
        company: Company | None = None,
    ) -> None:
        """``probe`` touches the store and raises ``sqlite3.Error`` when it can't be used."""
        self._tcp_swarms = tcp_swarms
        self._company = company or Company()
        self._swarms = swarms
        self._tally = tally
        self._probe = probe
        self._started = time.monotonic()

    async def stats(self, request: web.Request) -> web.Response:
        """Return the counts: a page for browsers, JSON for everybody else."""
        counts, uptime_s = self._counts(), time.monotonic() - self._started
        if wants_page(request.headers.get("Accept", "")):
            return web.Response(
                text=page(counts, uptime_s, VERSION),
                content_type="text/html",
                headers={**HEADERS, "Vary": "Accept"},
            )
        said = {**counts, "uptime_s": uptime_s, "version": VERSION}
        return web.json_response(said, headers={"Vary": "Accept"})

    async def metrics(self, _request: web.Request) -> web.Response:
        """Return the counts in Prometheus' text format."""
        counts = self._counts()
        lines: list[str] = []
        for name, kind, about in _METRICS:
            full = f"dreamer_tracker_{name}" + ("_total" if kind == "counter" else "")
            lines += [f"# HELP {full} {about}", f"# TYPE {full} {kind}", f"{full} {counts[name]}"]
        lines += self._company.metrics()
        return web.Response(text="\n".join(lines) + "\n")

    async def health(self, _request: web.Request) -> web.Response:
        """Say that the process answers."""
        return web.json_response({"status": "ok"})

    async def ready(self, _request: web.Request) -> web.Response:
        """Say whether the tracker can serve: 503 while its store can't be used."""
        try:
            await asyncio.to_thread(self._probe)
        except sqlite3.Error as error:
            return web.json_response({"status": "unready", "reason": str(error)}, status=503)
        return web.json_response({"status": "ready", **self._company.words()})

    def _counts(self) -> dict[str, int]:
        # Only this process has swarms over TCP: see ``http_announce``.
        return {
            **self._company.added_to(counts_of(self._swarms, self._tally)),
            **self._tcp_swarms.totals(),
        }
