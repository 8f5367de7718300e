"""Settings of public models."""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.daemon.setting_checks import (
    addresses_to_listen_at,
    room_ids_only,
    with_schemes,
)
from dreamer.daemon.settings.key import key


@dataclass(frozen=True)
class TorrentSection:
    """Public models: those pushed with --public, given to and fetched from any BitTorrent client.

    No model of a room is in a torrent without that (or a room in public_rooms), and no process
    runs for torrents before there is a public model. Nothing is asked of anybody but trackers and
    peers: no DHT, no announcements on the local network, no router is told to open ports, unless a
    key here says so.
    """

    enabled: bool = key(True, "Seed public models held here, and fetch public models as torrents.")
    public_rooms: tuple[str, ...] = key(
        (),
        "Rooms to which this node pushes as if --public were given, every time, by the ids that "
        "`dreamer room list --json` prints. What others push there is as public as they say.",
        room_ids_only,
    )
    listen: tuple[str, ...] = key(
        ("0.0.0.0:0", "[::]:0"),
        "Addresses at which torrent peers are accepted, TCP and uTP. Port 0 picks a free one at "
        "each start; behind a router choose a port, and have the router forward it.",
        addresses_to_listen_at,
    )
    trackers: tuple[str, ...] = key(
        (),
        "Trackers beside the rooms' own at which public models are announced.",
        with_schemes("http", "https", "ws", "wss", "udp"),
    )
    web_seeds: tuple[str, ...] = key(
        (),
        "URLs below which public models can be read by HTTP, each in a directory named as its "
        "torrent (BEP 19); they go into the magnet links that this node publishes.",
        with_schemes("http", "https"),
    )
    origin_is_public: bool = key(
        False,
        "Anybody can read the rooms' S3 origins: what is pushed with --public is copied there by "
        "name as well (which takes the room twice), and the origin is named as a web seed.",
    )
    dht: bool = key(False, "Use the public DHT, beginning at libtorrent's own server.")
    stun: str = key("", "The STUN server for WebTorrent peers behind NAT, as HOST:PORT.")
    local_peers: bool = key(
        False,
        "Let trackers on this machine and in private networks be spoken to in ways that would else "
        "be taken for an attack (libtorrent's ssrf_mitigation is off). For tests and closed "
        "networks.",
    )
