"""What an HTTP announce or scrape is answered: bencoded (BEP 3), in a response of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dreamer.protocol.bencode import encode
from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import TRACKER_HTTP_INTERVAL_S, TRACKER_HTTP_MIN_INTERVAL_S
from dreamer.tracker.public.tcp_swarms import Endpoint, split
from dreamer.tracker.public.wire import Counts

# Clients read what is wrong only in a response that says 200.
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
    b"Cache-Control: no-store\r\nConnection: close\r\n\r\n"
)


def announce_reply(counts: Counts, peers: Sequence[Endpoint]) -> bytes:
    """Return the response to an announce.

    Peers come as compact lists, whether they were asked for or not: BEP 23 leaves that to the
    tracker, and so nobody learns another's peer id.
    """
    of4, of6 = split(peers)
    said: dict[str, int | bytes] = {
        **_counted(counts),
        "interval": TRACKER_HTTP_INTERVAL_S,
        "min interval": TRACKER_HTTP_MIN_INTERVAL_S,
        # Clients of IPv6 alone look for this one too.
        "peers": of4,
    }
    if of6:
        said["peers6"] = of6
    return _response(said)


def scrape_reply(files: Mapping[InfoHash, Counts]) -> bytes:
    """Return the response to a scrape (BEP 48)."""
    said = {info_hash: _counted(counts) for info_hash, counts in files.items()}
    flags = {"min_request_interval": TRACKER_HTTP_INTERVAL_S}
    return _response({"files": said, "flags": flags})


def failure(reason: str, retry_min: int | None = None) -> bytes:
    """Return the response that says what is wrong.

    What passes by itself names the minutes after which to try again (BEP 31).
    """
    said: dict[str, int | str] = {"failure reason": reason}
    if retry_min is not None:
        said["retry in"] = retry_min
    return _response(said)


def _counted(counts: Counts) -> dict[str, int]:
    return {
        "complete": counts.complete,
        "incomplete": counts.incomplete,
        "downloaded": counts.downloaded,
    }


def _response(said: Mapping[str, object]) -> bytes:
    body = encode(said)
    return _HEAD % len(body) + body
