"""The command ``dreamer-tracker``: serve until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from dreamer.protocol.errors import DreamerError, LocalError
from dreamer.protocol.limits import TRACKER_STOP_TIMEOUT_S
from dreamer.tracker.app import Tracker
from dreamer.tracker.config import DEFAULT_LISTEN, Given, TrackerConfig, resolve
from dreamer.tracker.documents import Documents

STDIN_FD = 0


def main() -> None:
    """Run the tracker; exit 1 with one line on stderr when it can't."""
    given = _arguments().parse_args()
    try:
        said = Given(given.listen, given.data, given.rooms, given.names, given.config)
        config = resolve(said, os.environ)
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
        help="the TOML file of settings; [tracker] has listen, data, rooms and names",
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
    tracker = Tracker(documents, random.SystemRandom(), config.terms)
    runner = web.AppRunner(
        tracker.web_app(), access_log=None, shutdown_timeout=TRACKER_STOP_TIMEOUT_S
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, config.host, config.port).start()
        except OSError as error:
            raise LocalError(
                f"can't listen on {config.host}:{config.port} ({error.strerror}): "
                "choose another --listen"
            ) from error
        _announce_url(config.host, runner.addresses[0][1])
        await stop.wait()
    finally:
        await runner.cleanup()


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
