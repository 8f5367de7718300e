"""How libtorrent is told to behave: nothing leaves this machine that nobody asked for.

By default it would speak to a public STUN server, join the DHT, announce itself on the local
network and open ports on the router; here each of them is off unless the configuration names it.
"""

from __future__ import annotations

from typing import Any

import libtorrent as lt

from dreamer.daemon.torrent.vocabulary import Configure
from dreamer.protocol.limits import (
    TORRENT_CONNECTIONS_MAX,
    TORRENT_DISK_THREADS,
    TORRENT_QUEUED_DISK_MAX_BYTES,
    TORRENT_RECONNECT_S,
    TORRENT_UPLOAD_SLOTS,
)

ALERTS = (
    lt.alert.category_t.status_notification
    | lt.alert.category_t.storage_notification
    | lt.alert.category_t.error_notification
    | lt.alert.category_t.piece_progress_notification
)

QUIET: dict[str, Any] = {
    "enable_dht": False,
    "dht_bootstrap_nodes": "",
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "webtorrent_stun_server": "",
    "proxy_type": 0,
    # Peers must not be able to have us ask our own network for things (SSRF).
    "ssrf_mitigation": True,
    "allow_idna": False,
}
"""What would speak to others by itself."""

_TUNED: dict[str, Any] = {
    "alert_mask": ALERTS,
    "connections_limit": TORRENT_CONNECTIONS_MAX,
    "unchoke_slots_limit": TORRENT_UPLOAD_SLOTS,
    "max_queued_disk_bytes": TORRENT_QUEUED_DISK_MAX_BYTES,
    # Files lie in the page cache, mostly: more threads would only hold more memory.
    "aio_threads": TORRENT_DISK_THREADS,
    # TCP first: uTP yields to other traffic, which is our planner's to decide. Others may use it.
    "enable_outgoing_utp": False,
    "mixed_mode_algorithm": 0,
    # A pull that wants nothing for a moment looks finished: seeds must not part over that.
    "close_redundant_connections": False,
    "min_reconnect_time": TORRENT_RECONNECT_S,
    # Every tracker is told, as each serves other clients (HTTP plain ones, WebSocket browsers).
    "announce_to_all_tiers": True,
    "announce_to_all_trackers": True,
    # The limits are for everybody: which machines are near is not libtorrent's to say.
    "ignore_limits_on_local_network": False,
    # Several nodes of a team may share an address.
    "allow_multiple_connections_per_ip": True,
    # A stored file keeps its times as they are.
    "no_atime_storage": True,
}


def settings(wanted: Configure) -> dict[str, Any]:
    """Return libtorrent's settings."""
    chosen = {
        **QUIET,
        **_TUNED,
        "listen_interfaces": wanted.listen,
        "user_agent": wanted.user_agent,
        "enable_dht": wanted.dht,
        "webtorrent_stun_server": wanted.stun,
        "ssrf_mitigation": not wanted.local_peers,
    }
    if wanted.dht:
        # Its own default; with an empty list the DHT would know nobody to begin with.
        chosen["dht_bootstrap_nodes"] = lt.default_settings()["dht_bootstrap_nodes"]
    return chosen
