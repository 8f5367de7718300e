"""Settings of links to other nodes, and of how much of the network models may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dreamer.daemon.setting_checks import (
    a_rate,
    an_address_or_none,
    between,
    parsed,
    several_addresses,
    with_schemes,
)
from dreamer.daemon.settings.key import key
from dreamer.protocol.limits import (
    LINKS_MAX_PER_NODE,
    LINKS_MESH_MIN,
    RELAY_BUDGET_MAX_MIB,
    RELAY_BUDGET_MIB_PER_DAY,
    RELAY_BUDGET_MIB_PER_MONTH,
    RELAY_BUDGET_MIB_PER_PEER,
    TRANSPORT_PROCESSES_MAX,
    UPLOAD_SLOTS,
    UPLOAD_SLOTS_MAX,
)
from dreamer.protocol.shaping.rates import (
    Limits,
    Rates,
    parse_lanes,
    parse_schedule,
    rate_bytes_s,
)


@dataclass(frozen=True)
class NetworkSection:
    """How links to other nodes are made."""

    stun: tuple[str, ...] = key(
        (), "STUN servers that tell a node its public address.", with_schemes("stun", "stuns")
    )
    turn: tuple[str, ...] = key(
        (), "TURN servers that relay where no direct way exists.", with_schemes("turn", "turns")
    )
    turn_username: str = key("", "User name at the TURN servers.")
    turn_password: str = key("", "Password at the TURN servers.")
    relay: Literal["never", "fallback", "only"] = key(
        "fallback",
        "Use TURN never, as a fallback, or only (private networks that allow nothing else).",
    )
    direct_listen: str = key(
        "[::]:0",
        "Address for direct connections from other members, which are many times faster than "
        "WebRTC; port 0 picks a free one. [::] is every interface, IPv4 too. Name a port to open "
        "it in a firewall. Empty: none; and none if relay is only.",
        an_address_or_none,
    )
    direct_addresses: tuple[str, ...] = key(
        (),
        "More addresses at which others reach that port, as HOST:PORT: a router's that forwards "
        "it here, or a container's host.",
        several_addresses,
    )
    relay_budget_mib_per_peer: int = key(
        RELAY_BUDGET_MIB_PER_PEER,
        "MiB that relays may carry to and from one peer in a calendar month (UTC), both ways added "
        "up. Past a budget models come from elsewhere; the link stays. 0: no models over relays.",
        between(0, RELAY_BUDGET_MAX_MIB),
    )
    relay_budget_mib_per_day: int = key(
        RELAY_BUDGET_MIB_PER_DAY,
        "MiB that relays may carry for this node in a day (UTC), all peers together.",
        between(0, RELAY_BUDGET_MAX_MIB),
    )
    relay_budget_mib_per_month: int = key(
        RELAY_BUDGET_MIB_PER_MONTH,
        "MiB that relays may carry for this node in a calendar month (UTC), all peers together.",
        between(0, RELAY_BUDGET_MAX_MIB),
    )
    mesh_links: int = key(
        LINKS_MESH_MIN,
        "Links to other members that a node keeps up in each room, though nothing is exchanged: "
        "over them members find one another when every tracker is away.",
        between(0, LINKS_MAX_PER_NODE),
    )
    transport_processes: int = key(
        0,
        "Processes that links are spread over. WebRTC is computed in Python, so one process moves "
        "no more than a core can. 0: one for each core, four at most.",
        between(0, TRANSPORT_PROCESSES_MAX),
    )


@dataclass(frozen=True)
class SharingSection:
    """How much of the network models may take. Limits are in megabits per second; 0 is none."""

    up_mbit: float = key(0.0, "The most that is sent, over all lanes together.", a_rate)
    down_mbit: float = key(0.0, "The most that is fetched, over all lanes together.", a_rate)
    lane_limits: tuple[str, ...] = key(
        (),
        "Limits of single lanes (direct, webrtc, torrent, relay, origin), such as "
        '["relay up=4 down=4", "origin down=200"].',
        parsed(parse_lanes),
    )
    schedule: tuple[str, ...] = key(
        (),
        "Other limits at some hours of the day, local time, in place of up_mbit and down_mbit: "
        '["08:00-18:00 up=20 down=50"]. Of hours that overlap the first count.',
        parsed(parse_schedule),
    )
    lan_exempt: bool = key(
        True,
        "Leave direct connections within the local network out of up_mbit, down_mbit and the "
        "schedule.",
    )
    upload_slots: int = key(
        UPLOAD_SLOTS,
        "How many members are sent to at once; others come back a second later.",
        between(1, UPLOAD_SLOTS_MAX),
    )

    def limits(self) -> Limits:
        """Return what these come to."""
        return Limits(
            Rates(rate_bytes_s(self.up_mbit), rate_bytes_s(self.down_mbit)),
            parse_lanes(self.lane_limits),
            parse_schedule(self.schedule),
            self.lan_exempt,
        )
