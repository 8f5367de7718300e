"""How far an upload is, in bytes and in parts; what it sent, what was there, what was saved."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class UploadProgress:
    """Bytes and parts that the origin has by now, of those that it is to have in the end."""

    done: int
    total: int
    parts_done: int
    parts_total: int


OnUpload = Callable[[UploadProgress], None]


@dataclass(frozen=True)
class UploadReport:
    """What an upload did, in bytes.

    ``sent_bytes`` went over the wire, ``skipped_bytes`` were at the origin already, and
    ``saved_bytes`` are those by which files became smaller that were sent as zstd;
    ``stored_bytes`` is what the model takes at the origin.
    """

    sent_bytes: int
    skipped_bytes: int
    saved_bytes: int = 0
    stored_bytes: int = 0


class Tally:
    """Counts for one upload; thread-safe. A part that has to be sent twice is done only once."""

    def __init__(self, tell: OnUpload) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._done: dict[tuple[str, int], int] = {}
        self._wanted: dict[tuple[str, int], int] = {}
        self._done_bytes = 0
        self._wanted_bytes = 0
        self._heard = False
        self._sent = 0
        self._skipped = 0
        self._saved = 0

    def want(self, key: str, lengths: list[int]) -> None:
        """Note that a key is to be there, in parts of these lengths (bytes), from number 1."""
        with self._lock:
            for number in [number for name, number in self._wanted if name == key]:
                self._wanted_bytes -= self._wanted.pop((key, number))
            for number, length in enumerate(lengths, 1):
                self._wanted[key, number] = length
                self._wanted_bytes += length

    def instead(self, key: str, other: str, lengths: list[int], saved_bytes: int) -> None:
        """Note that what would have been ``key`` goes, smaller, under another one."""
        self.want(key, [])
        self.want(other, lengths)
        with self._lock:
            self._saved += saved_bytes

    def part(self, key: str, number: int, length: int, *, sent: bool) -> None:
        """Note that a part is at the origin: because we sent it, or as it was there."""
        with self._lock:
            fresh = (key, number) not in self._done
            if fresh:
                self._done[key, number] = length
                self._done_bytes += length
            if sent:
                self._sent += length
            elif fresh:
                self._skipped += length
            # Told under the lock, so that nobody is ever told less than before.
            self._tell(
                UploadProgress(
                    self._done_bytes, self._wanted_bytes, len(self._done), len(self._wanted)
                )
            )

    def heard(self) -> None:
        """Note that the origin has answered; told once, before anything is done."""
        with self._lock:
            first, self._heard = not self._heard, True
            if first:
                self._tell(UploadProgress(0, self._wanted_bytes, 0, len(self._wanted)))

    def whole(self, key: str) -> None:
        """Note that all parts of a key were there."""
        for name, number in [each for each in self._wanted if each[0] == key]:
            self.part(name, number, self._wanted[name, number], sent=False)

    @property
    def report(self) -> UploadReport:
        """What was done so far."""
        return UploadReport(self._sent, self._skipped, self._saved, self._wanted_bytes)
