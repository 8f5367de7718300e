"""Session descriptions as browsers write them for a data channel, no two alike.

They have 700 to 1,200 bytes, by the number of gathered candidates.
"""

from __future__ import annotations

from random import Random
from string import ascii_letters, digits

_ICE = ascii_letters + digits + "+/"
_HEX = "0123456789ABCDEF"


def description(rng: Random, setup: str) -> str:
    """Return one; ``setup`` is ``actpass`` in an offer and ``active`` in an answer."""
    port = rng.randrange(32768, 61000)
    lines = [
        "v=0",
        f"o=- {rng.getrandbits(62)} 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "a=extmap-allow-mixed",
        "a=msid-semantic: WMS",
        f"m=application {port} UDP/DTLS/SCTP webrtc-datachannel",
        f"c=IN IP4 {_address(rng)}",
        *_candidates(rng, port),
        f"a=ice-ufrag:{_word(rng, 4)}",
        f"a=ice-pwd:{_word(rng, 24)}",
        "a=ice-options:trickle",
        f"a=fingerprint:sha-256 {_fingerprint(rng)}",
        f"a=setup:{setup}",
        "a=mid:0",
        "a=sctp-port:5000",
        "a=max-message-size:262144",
    ]
    return "\r\n".join(lines) + "\r\n"


def _candidates(rng: Random, port: int) -> list[str]:
    local = [
        f"a=candidate:{rng.getrandbits(32)} 1 udp {2122260223 - 256 * each} {_address(rng)} "
        f"{port + each} typ host generation 0 network-id {each + 1} network-cost 10"
        for each in range(rng.randrange(1, 5))
    ]
    seen = (
        f"a=candidate:{rng.getrandbits(32)} 1 udp 1686052607 {_address(rng)} {port} typ srflx "
        f"raddr 0.0.0.0 rport 0 generation 0 network-id 1 network-cost 10"
    )
    return [*local, seen]


def _address(rng: Random) -> str:
    return f"{rng.randrange(1, 224)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}"


def _word(rng: Random, length: int) -> str:
    return "".join(rng.choices(_ICE, k=length))


def _fingerprint(rng: Random) -> str:
    return ":".join("".join(rng.choices(_HEX, k=2)) for _ in range(32))
