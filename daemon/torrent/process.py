"""The torrent process: takes the daemon's commands, runs one libtorrent session."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import libtorrent as lt

from dreamer.daemon.child_messages import encode
from dreamer.daemon.torrent.settings import ALERTS, settings
from dreamer.daemon.torrent.swarm import Swarm
from dreamer.daemon.torrent.vocabulary import (
    AddTorrent,
    AskSettings,
    Configure,
    FromTorrent,
    Listening,
    ReleasePieces,
    RemoveTorrent,
    SetLimits,
    SettingsInForce,
    TorrentFailed,
    TorrentRemoved,
    ToTorrent,
    WantPieces,
    read_command,
)
from dreamer.protocol.limits import (
    TORRENT_EXIT_TIMEOUT_S,
    TORRENT_REPORT_INTERVAL_S,
    TORRENT_STOP_SILENCE_S,
    TORRENT_STOP_TIMEOUT_S,
)

log = logging.getLogger(__name__)

VERIFYING_THREADS = 2


class TorrentProcess:
    """All torrents of one daemon."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(VERIFYING_THREADS, "torrent-verify")
        self._session: Any = None
        self._swarms: dict[int, Swarm] = {}
        self._by_hash: dict[bytes, Swarm] = {}
        # Commands for a swarm that another torrent of ours is still letting go of.
        self._waiting: dict[bytes, list[Any]] = {}

    async def run(self) -> None:
        """Serve until the daemon's end of the socket closes."""
        reporting = asyncio.create_task(self._report())
        while (command := await read_command(self._reader)) is not None:
            self._attempt(command)
        reporting.cancel()
        # libtorrent's own threads don't always end, and of a daemon that was killed nobody is left
        # to end this process: the kernel does, whatever holds the interpreter.
        signal.setitimer(signal.ITIMER_REAL, TORRENT_EXIT_TIMEOUT_S)
        await self._stop()

    async def _stop(self) -> None:
        if self._session is None:
            return
        heard = ALERTS | lt.alert.category_t.tracker_notification
        self._session.apply_settings({"alert_mask": heard})
        # Peers are let go and writes end at once; trackers have a moment to hear of it.
        self._session.pause()
        if any(swarm.handle.trackers() for swarm in self._swarms.values()):
            await asyncio.to_thread(self._hear_trackers)

    def _hear_trackers(self) -> None:
        ends = time.monotonic() + TORRENT_STOP_TIMEOUT_S
        silence_ms = int(TORRENT_STOP_SILENCE_S * 1000)
        while time.monotonic() < ends and self._session.wait_for_alert(silence_ms) is not None:
            self._session.pop_alerts()

    def _attempt(self, command: ToTorrent) -> None:
        try:
            self._perform(command)
        except Exception as error:
            # What is in a stranger's torrent reaches deep into libtorrent; it costs that torrent.
            number = getattr(command, "torrent", 0)
            log.exception("torrent %d failed", number)
            self._fail(number, str(error))

    def _perform(self, command: ToTorrent) -> None:
        match command:
            case Configure():
                self._start(command)
            case AddTorrent():
                self._add(command)
            case SetLimits(up, down):
                self._session.apply_settings({"upload_rate_limit": up, "download_rate_limit": down})
            case AskSettings():
                self._emit(SettingsInForce(json.dumps(self._session.get_settings())))
            case RemoveTorrent(torrent) if torrent not in self._swarms:
                for queue in self._waiting.values():
                    queue[:] = [one for one in queue if one.torrent != torrent]
                self._emit(TorrentRemoved(torrent))
            case _:
                for queue in self._waiting.values():
                    if any(one.torrent == command.torrent for one in queue):
                        queue.append(command)
                if found := self._swarms.get(command.torrent):
                    self._use(found, command)

    def _add(self, command: AddTorrent) -> None:
        key = _key(lt.load_torrent_buffer(command.metadata).info_hashes)
        if key in self._by_hash:
            # A pull that ended is still letting go of the swarm that is now to be seeded, or a
            # pull in another room has it.
            self._waiting.setdefault(key, []).append(command)
            return
        swarm = Swarm(self._session, command, self._threads, self._emit_from_thread)
        self._swarms[command.torrent] = self._by_hash[key] = swarm

    def _use(self, swarm: Swarm, command: ToTorrent) -> None:
        match command:
            case WantPieces(_, pieces):
                swarm.want(pieces)
            case ReleasePieces(_, pieces):
                swarm.release(pieces)
            case RemoveTorrent(torrent):
                swarm.leave(TorrentRemoved(torrent))

    def _start(self, command: Configure) -> None:
        parameters = lt.session_params()
        chosen: Any = settings(command)
        parameters.settings = chosen
        self._session = lt.session(parameters)
        # Called on libtorrent's own thread, once until all alerts have been fetched.
        self._session.set_alert_notify(self._alerts_waiting)

    def _alerts_waiting(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._take_alerts)

    def _take_alerts(self) -> None:
        for alert in self._session.pop_alerts():
            try:
                self._heed(alert)
            except Exception:
                log.exception("an alert could not be handled: %s", alert)

    def _heed(self, alert: Any) -> None:
        match alert:
            case lt.listen_succeeded_alert():
                self._emit(Listening(self._session.listen_port()))
            case lt.listen_failed_alert():
                log.error("can't accept torrent peers: %s", alert.message())
            case lt.torrent_alert():
                if swarm := self._swarm(alert):
                    self._heed_of(swarm, alert)

    def _heed_of(self, swarm: Swarm, alert: Any) -> None:
        match alert:
            case lt.piece_finished_alert():
                swarm.finished(alert.piece_index)
            case lt.torrent_checked_alert():
                swarm.checked()
            case lt.torrent_paused_alert():
                if swarm.stopped():
                    self._forget(swarm)
            case lt.file_error_alert() | lt.torrent_error_alert() | lt.metadata_failed_alert():
                swarm.leave(TorrentFailed(swarm.number, alert.message()))

    def _swarm(self, alert: Any) -> Swarm | None:
        handle = alert.handle
        return self._by_hash.get(_key(handle.info_hashes())) if handle.is_valid() else None

    def _forget(self, swarm: Swarm) -> None:
        del self._swarms[swarm.number]
        key = next(key for key, one in self._by_hash.items() if one is swarm)
        del self._by_hash[key]
        for command in self._waiting.pop(key, []):
            self._attempt(command)

    def _fail(self, number: int, reason: str) -> None:
        if swarm := self._swarms.get(number):
            swarm.leave(TorrentFailed(number, reason))
        else:
            self._emit(TorrentFailed(number, reason))

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(TORRENT_REPORT_INTERVAL_S)
            for swarm in list(self._swarms.values()):
                swarm.report()

    def _emit(self, event: FromTorrent) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode(event))

    def _emit_from_thread(self, event: FromTorrent) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._emit, event)


def _key(hashes: Any) -> bytes:
    key: bytes = hashes.v1.to_bytes()
    return key


async def _serve(fd: int) -> None:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd))
    process = TorrentProcess(reader, writer)
    await process.run()
    # Not by returning: the session's destructor waits for every tracker, and holds the lock of
    # the interpreter while libtorrent's thread waits for it to tell us of alerts.
    os._exit(0)


def main(fd: int) -> None:
    """Run the process on an inherited socket; it ends with the daemon, not with its signals."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s torrent %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    asyncio.run(_serve(fd))
