"""The command ``dreamer-tracker``: serve until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp.http import HttpProcessingError

from dreamer.protocol.errors import DreamerError, InputError, LocalError
from dreamer.protocol.tracker_limits import TRACKER_SOCKETS_PER_ADDRESS
from dreamer.tracker import descriptors
from dreamer.tracker.app import Tracker
from dreamer.tracker.config import DEFAULT_LISTEN, Given, TrackerConfig, resolve
from dreamer.tracker.public.elsewhere import Elsewhere
from dreamer.tracker.room.documents import Documents
from dreamer.tracker.workers.channel import SUPPORTED
from dreamer.tracker.workers.crew import Crew

STDIN_FD = 0


def main() -> None:
    """Run the tracker; exit 1 with one line on stderr when it can't."""
    given = _arguments().parse_args()
    _log_plainly()
    try:
        said = Given(
            given.listen,
            given.data,
            given.rooms,
            given.names,
            given.config,
            given.sockets_per_address,
            given.redis,
            given.workers,
        )
        config = resolve(said, os.environ)
        descriptors.allow_all()
        documents = Documents(config.data)
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_serve(config, documents, given.until_stdin_closes))
        finally:
            documents.close()
    except DreamerError as error:
        sys.exit(f"dreamer-tracker: {error}")
    except KeyboardInterrupt:
        # Where the loop can't take signals, Ctrl-C arrives like this.
        return


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dreamer-tracker",
        description="Where a team's nodes, and any WebTorrent clients, find one another. "
        "The first line on stdout is the tracker's URL.",
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help=f"where to serve; port 0 takes a free one (default {DEFAULT_LISTEN}; "
        "DREAMER_TRACKER_LISTEN)",
    )
    parser.add_argument(
        "--data", metavar="DIR", help="the folder of its store (DREAMER_TRACKER_DATA)"
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="the TOML file of settings; docs/tracker.md says what [tracker] has",
    )
    parser.add_argument(
        "--rooms",
        metavar="ID,…",
        help="the only rooms to serve, by their ids (default: any; DREAMER_TRACKER_ROOMS)",
    )
    parser.add_argument(
        "--names",
        metavar="HOST:PORT,…",
        help="what nodes dial to reach this tracker: logins made for another are refused "
        "(default: what the Host header says; DREAMER_TRACKER_NAMES)",
    )
    parser.add_argument(
        "--sockets-per-address",
        metavar="N",
        help="how many connections one address may have, 0 for any number (default "
        f"{TRACKER_SOCKETS_PER_ADDRESS}; DREAMER_TRACKER_SOCKETS_PER_ADDRESS)",
    )
    parser.add_argument(
        "--redis",
        metavar="URL",
        help="the Redis through which several trackers share their swarms, as "
        "redis://HOST:6379; one with a password belongs in DREAMER_TRACKER_REDIS",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        help="how many processes serve public clients; more than one need --redis (default 1; "
        "DREAMER_TRACKER_WORKERS)",
    )
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="stop when standard input ends: a program that starts a tracker takes it along",
    )
    return parser


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


async def _serve(config: TrackerConfig, documents: Documents, until_stdin_closes: bool) -> None:
    stop = asyncio.Event()
    _stop_on_signals(stop)
    if until_stdin_closes:
        _stop_with_stdin(stop)
    # Drawn often: the system's own source would be a system call each time.
    rng = random.Random(random.SystemRandom().getrandbits(256))  # noqa: S311
    tracker = Tracker(
        documents,
        rng,
        config.terms,
        config.lends,
        config.sockets_per_address,
        _elsewhere(config, rng),
        Crew(config.workers, config.redis) if config.workers > 1 else None,
    )
    async with AsyncExitStack() as stack:
        try:
            port = await stack.enter_async_context(tracker.listening(config.host, config.port))
        except OSError as error:
            raise LocalError(
                f"can't listen on {config.host}:{config.port} ({error.strerror}): "
                "choose another --listen"
            ) from error
        _announce_url(config.host, port)
        await stop.wait()


def _elsewhere(config: TrackerConfig, rng: random.Random) -> Elsewhere | None:
    if config.workers > 1 and not SUPPORTED:
        raise InputError("workers take connections over as only Linux lets them: use one here")
    if not config.redis:
        return None
    # A tracker that runs alone has no use for any of it.
    from dreamer.tracker.cluster.join import join

    return join(config.redis, rng)


def _log_plainly() -> None:
    logging.basicConfig(format="dreamer-tracker: %(message)s", level=logging.WARNING)
    logging.getLogger("dreamer").setLevel(logging.INFO)
    logging.getLogger("aiohttp.server").addFilter(_is_ours)


def _is_ours(record: logging.LogRecord) -> bool:
    # aiohttp logs each malformed request with a traceback: any stranger could fill the disk.
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


def _announce_url(host: str, port: int) -> None:
    # Nobody can dial the wildcard address: say a name by which this machine may be known.
    named = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104
    shown = f"[{named}]" if ":" in named else named
    sys.stdout.write(f"http://{shown}:{port}\n")
    sys.stdout.flush()


def _stop_with_stdin(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def wait_for_end() -> None:
        # Not through sys.stdin: its lock, held here, would break the interpreter's shutdown.
        while os.read(STDIN_FD, 1):
            pass
        # The loop may have ended before the input did.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait_for_end, daemon=True).start()


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:
            # Windows: its loops take no signal handlers.
            return


if __name__ == "__main__":
    main()
