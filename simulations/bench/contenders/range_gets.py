"""The least that an origin lane can be: threads that GET ranges, hash the blocks and write them.

Usage: python -m dreamer.simulations.bench.contenders.range_gets URL TARGET SIZE

No planner, no signatures, no retries: each thread has one connection and takes the next range. The
hashes are made, but there is nothing to compare them with. Prints the seconds it took.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit

from blake3 import blake3

THREADS = 4
RANGE_BYTES = 16 * 1024 * 1024
BLOCK_BYTES = 1024 * 1024


def fetch(url: str, target: int, size: int, offsets: Iterator[int]) -> None:
    """Take ranges until there are none left."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=30)
    block = memoryview(bytearray(BLOCK_BYTES))
    for offset in offsets:
        end = min(offset + RANGE_BYTES, size)
        connection.request("GET", parts.path, headers={"Range": f"bytes={offset}-{end - 1}"})
        answer = connection.getresponse()
        for at in range(offset, end, BLOCK_BYTES):
            data = block[: min(BLOCK_BYTES, end - at)]
            done = 0
            while done < len(data):
                done += answer.readinto(data[done:])
            blake3(data).digest()
            os.pwrite(target, data, at)
    connection.close()


def main() -> None:
    """Fetch the file that the command line names."""
    url, path, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    target = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.posix_fallocate(target, 0, size)
    ranges = itertools.count(0, RANGE_BYTES)
    offsets = itertools.takewhile(lambda offset: offset < size, ranges)
    lock = threading.Lock()

    def shared() -> Iterator[int]:
        while True:
            with lock:
                offset = next(offsets, None)
            if offset is None:
                return
            yield offset

    began = time.monotonic()
    threads = [
        threading.Thread(target=fetch, args=(url, target, size, shared())) for _ in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.fsync(target)
    sys.stdout.write(f"{time.monotonic() - began}\n")


if __name__ == "__main__":
    main()
