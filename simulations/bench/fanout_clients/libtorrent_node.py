"""libtorrent on one host: seeds a file, or fetches it and goes on sharing it until it is ended.

Usage: python -m dreamer.simulations.bench.fanout_clients.libtorrent_node
       TORRENT FOLDER ADDRESS {seed|fetch} GO DONE

Says ``ready``, begins when the file GO is there, and makes the file DONE when it has everything.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import libtorrent as lt

PORT = 6881
POLL_S = 0.01


def settings(address: str) -> Any:
    """Return its settings for seeding at high speed, with one way to find peers: the tracker."""
    made: Any = lt.high_performance_seed()
    made |= {
        "listen_interfaces": f"{address}:{PORT}",
        "alert_mask": lt.alert.category_t.status_notification,
        # Plain TCP was the faster of the two on shaped links; encryption costs only.
        "enable_outgoing_utp": False,
        "enable_incoming_utp": False,
        "out_enc_policy": lt.enc_policy.pe_disabled,
        "in_enc_policy": lt.enc_policy.pe_disabled,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "webtorrent_stun_server": "",
    }
    return made


def wait_finished(session: Any) -> None:
    """Wait until its torrent has everything."""
    while True:
        session.wait_for_alert(1000)
        if any(isinstance(alert, lt.torrent_finished_alert) for alert in session.pop_alerts()):
            return


def main() -> None:
    """Run until a signal ends it."""
    torrent, folder, address, role, go, done = sys.argv[1:]
    session: Any = lt.session(settings(address))
    added = lt.add_torrent_params()
    added.ti = lt.torrent_info(torrent)
    added.save_path = folder
    if role == "seed":
        added.flags |= lt.torrent_flags.seed_mode
    print("ready", flush=True)
    while not Path(go).exists():
        time.sleep(POLL_S)
    session.add_torrent(added)
    if role == "fetch":
        wait_finished(session)
        Path(done).touch()
    signal.pause()


if __name__ == "__main__":
    main()
