"""What a node can be told: one TOML file, overridden by ``DREAMER_<SECTION>_<KEY>``.

Each key's documentation stands beside its field; ``dreamerd --print-default-config`` prints them
all. A key that does not exist is an error: a misspelt setting must not be a silent default.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, cast

from dreamer.daemon.field_types import TableText
from dreamer.daemon.setting_checks import (
    Check,
    a_rate,
    a_socket_mode,
    addresses_to_listen_at,
    an_address,
    an_address_or_none,
    between,
    loopback_or_none,
    parsed,
    room_ids_only,
    several_addresses,
    with_schemes,
)
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import (
    INFERENCE_IDLE_TIMEOUT_S,
    INFERENCE_MAX_MODELS,
)
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
from dreamer.protocol.tracker_limits import TURN_TTL_MAX_S, TURN_TTL_MIN_S, TURN_TTL_S, WORKERS_MAX


def _key(default: Any, doc: str, check: Check | None = None) -> Any:
    return field(default=default, metadata={"doc": doc, "check": check})


@dataclass(frozen=True)
class NodeSection:
    """This machine."""

    name: str = _key("", "The name that others see. Empty: this machine's host name.")
    models_dir: str = _key(
        "",
        "Where the store keeps models: a large, fast disk. Empty: HOME/models, or MODELS_DIR from "
        "the environment.",
    )


@dataclass(frozen=True)
class ApiSection:
    """The REST API for programs on this machine. The Unix socket is always there."""

    socket_mode: str = _key(
        "0600",
        "Permissions of HOME/run/dreamerd.sock. With those of the group set, HOME/run opens to it "
        "too; the directories above are yours to open.",
        a_socket_mode,
    )
    listen: str = _key(
        "",
        "Listen on TCP too, on loopback only, with a bearer token. Empty: no TCP.",
        loopback_or_none,
    )
    token_file: str = _key(
        "",
        "Holds the bearer token for TCP; made with mode 0600 when it is missing. "
        "Empty: HOME/identity/api-token.",
    )


@dataclass(frozen=True)
class NetworkSection:
    """How links to other nodes are made."""

    stun: tuple[str, ...] = _key(
        (), "STUN servers that tell a node its public address.", with_schemes("stun", "stuns")
    )
    turn: tuple[str, ...] = _key(
        (), "TURN servers that relay where no direct way exists.", with_schemes("turn", "turns")
    )
    turn_username: str = _key("", "User name at the TURN servers.")
    turn_password: str = _key("", "Password at the TURN servers.")
    relay: Literal["never", "fallback", "only"] = _key(
        "fallback",
        "Use TURN never, as a fallback, or only (private networks that allow nothing else).",
    )
    direct_listen: str = _key(
        "[::]:0",
        "Address for direct connections from other members, which are many times faster than "
        "WebRTC; port 0 picks a free one. [::] is every interface, IPv4 too. Name a port to open "
        "it in a firewall. Empty: none; and none if relay is only.",
        an_address_or_none,
    )
    direct_addresses: tuple[str, ...] = _key(
        (),
        "More addresses at which others reach that port, as HOST:PORT: a router's that forwards "
        "it here, or a container's host.",
        several_addresses,
    )
    relay_budget_mib_per_peer: int = _key(
        RELAY_BUDGET_MIB_PER_PEER,
        "MiB that relays may carry to and from one peer in a calendar month (UTC), both ways added "
        "up. Past a budget models come from elsewhere; the link stays. 0: no models over relays.",
        between(0, RELAY_BUDGET_MAX_MIB),
    )
    relay_budget_mib_per_day: int = _key(
        RELAY_BUDGET_MIB_PER_DAY,
        "MiB that relays may carry for this node in a day (UTC), all peers together.",
        between(0, RELAY_BUDGET_MAX_MIB),
    )
    relay_budget_mib_per_month: int = _key(
        RELAY_BUDGET_MIB_PER_MONTH,
        "MiB that relays may carry for this node in a calendar month (UTC), all peers together.",
        between(0, RELAY_BUDGET_MAX_MIB),
    )
    mesh_links: int = _key(
        LINKS_MESH_MIN,
        "Links to other members that a node keeps up in each room, though nothing is exchanged: "
        "over them members find one another when every tracker is away.",
        between(0, LINKS_MAX_PER_NODE),
    )
    transport_processes: int = _key(
        0,
        "Processes that links are spread over. WebRTC is computed in Python, so one process moves "
        "no more than a core can. 0: one for each core, four at most.",
        between(0, TRANSPORT_PROCESSES_MAX),
    )


@dataclass(frozen=True)
class SharingSection:
    """How much of the network models may take. Limits are in megabits per second; 0 is none."""

    up_mbit: float = _key(0.0, "The most that is sent, over all lanes together.", a_rate)
    down_mbit: float = _key(0.0, "The most that is fetched, over all lanes together.", a_rate)
    lane_limits: tuple[str, ...] = _key(
        (),
        "Limits of single lanes (direct, webrtc, torrent, relay, origin), such as "
        '["relay up=4 down=4", "origin down=200"].',
        parsed(parse_lanes),
    )
    schedule: tuple[str, ...] = _key(
        (),
        "Other limits at some hours of the day, local time, in place of up_mbit and down_mbit: "
        '["08:00-18:00 up=20 down=50"]. Of hours that overlap the first count.',
        parsed(parse_schedule),
    )
    lan_exempt: bool = _key(
        True,
        "Leave direct connections within the local network out of up_mbit, down_mbit and the "
        "schedule.",
    )
    upload_slots: int = _key(
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


@dataclass(frozen=True)
class TrackerSection:
    """The tracker inside this daemon, started by --with-tracker."""

    # Every interface, since only asking for --with-tracker starts it, and others must reach it.
    listen: str = _key(
        "0.0.0.0:8470", "Address it accepts on; port 0 picks a free one.", an_address
    )
    data: str = _key("", "Where it keeps its records. Empty: HOME/tracker.")
    rooms: tuple[str, ...] = _key(
        (),
        "The only rooms it serves, by the ids that `dreamer room list --json` prints. Empty: any, "
        "so that whoever reaches it may use it. Set it once your rooms are made.",
        room_ids_only,
    )
    names: tuple[str, ...] = _key(
        (),
        "What nodes dial to reach it, as HOST:PORT (HOST alone where the port is the scheme's "
        "own); a login made for another tracker is refused. Empty: what the Host header says, "
        "which another tracker of the same room could forge.",
    )
    turn_urls: tuple[str, ...] = _key(
        (),
        "TURN servers that it makes credentials for, as turn:HOST:PORT (docs/turn.md).",
        with_schemes("turn", "turns"),
    )
    turn_secret_file: str = _key(
        "", "Holds the secret shared with them (static-auth-secret of coturn); mode 0600."
    )
    turn_ttl_s: int = _key(
        TURN_TTL_S,
        "Seconds for which TURN credentials are good.",
        between(TURN_TTL_MIN_S, TURN_TTL_MAX_S),
    )
    origins: TableText = _key(  # noqa: RUF009 - a field of text, like the others
        TableText("{}"),
        "Rooms for which it signs S3 URLs, so that nodes need no S3 credentials: a section "
        '[tracker.origins.ROOM-ID] with url = "s3://BUCKET/PREFIX" and, if it isn\'t AWS, '
        "endpoint_url. The credentials are this daemon's.",
    )
    redis: str = _key(
        "",
        "The Redis through which several trackers share public swarms, as redis://HOST:6379 "
        "(docs/tracker.md). Empty: this one is alone.",
    )
    workers: int = _key(
        1,
        "Processes that serve public clients; more than one need redis.",
        between(1, WORKERS_MAX),
    )


@dataclass(frozen=True)
class TorrentSection:
    """Public models: those pushed with --public, given to and fetched from any BitTorrent client.

    No model of a room is in a torrent without that (or a room in public_rooms), and no process
    runs for torrents before there is a public model. Nothing is asked of anybody but trackers and
    peers: no DHT, no announcements on the local network, no router is told to open ports, unless a
    key here says so.
    """

    enabled: bool = _key(True, "Seed public models held here, and fetch public models as torrents.")
    public_rooms: tuple[str, ...] = _key(
        (),
        "Rooms to which this node pushes as if --public were given, every time, by the ids that "
        "`dreamer room list --json` prints. What others push there is as public as they say.",
        room_ids_only,
    )
    listen: tuple[str, ...] = _key(
        ("0.0.0.0:0", "[::]:0"),
        "Addresses at which torrent peers are accepted, TCP and uTP. Port 0 picks a free one at "
        "each start; behind a router choose a port, and have the router forward it.",
        addresses_to_listen_at,
    )
    trackers: tuple[str, ...] = _key(
        (),
        "Trackers beside the rooms' own at which public models are announced.",
        with_schemes("http", "https", "ws", "wss", "udp"),
    )
    web_seeds: tuple[str, ...] = _key(
        (),
        "URLs below which public models can be read by HTTP, each in a directory named as its "
        "torrent (BEP 19); they go into the magnet links that this node publishes.",
        with_schemes("http", "https"),
    )
    origin_is_public: bool = _key(
        False,
        "Anybody can read the rooms' S3 origins: what is pushed with --public is copied there by "
        "name as well (which takes the room twice), and the origin is named as a web seed.",
    )
    dht: bool = _key(False, "Use the public DHT, beginning at libtorrent's own server.")
    stun: str = _key("", "The STUN server for WebTorrent peers behind NAT, as HOST:PORT.")
    local_peers: bool = _key(
        False,
        "Let trackers on this machine and in private networks be spoken to in ways that would else "
        "be taken for an attack (libtorrent's ssrf_mitigation is off). For tests and closed "
        "networks.",
    )


@dataclass(frozen=True)
class InferenceSection:
    """Running models."""

    serve_peers: bool = _key(False, "Run models for other members of a room.")
    max_models: int = _key(
        INFERENCE_MAX_MODELS,
        "Models kept loaded at once, each in its own process.",
        between(1, 64),
    )
    max_memory_mib: int = _key(
        0,
        "MiB of memory that a model's process may take; weights mapped from disk don't count. "
        "0: three quarters of this machine's.",
        between(0, 2**30),
    )
    threads: int = _key(0, "Threads a model may use. 0: all cores.", between(0, 1024))
    idle_timeout_s: float = _key(
        INFERENCE_IDLE_TIMEOUT_S,
        "Seconds without a request before a model is unloaded.",
        between(0, 10**7),
    )


@dataclass(frozen=True)
class LogSection:
    """What the daemon says on stderr."""

    level: Literal["debug", "info", "warning", "error"] = _key("info", "The least it reports.")


@dataclass(frozen=True)
class Config:
    """Every setting of a node, checked."""

    node: NodeSection = field(default_factory=NodeSection)
    api: ApiSection = field(default_factory=ApiSection)
    network: NetworkSection = field(default_factory=NetworkSection)
    sharing: SharingSection = field(default_factory=SharingSection)
    tracker: TrackerSection = field(default_factory=TrackerSection)
    torrent: TorrentSection = field(default_factory=TorrentSection)
    inference: InferenceSection = field(default_factory=InferenceSection)
    log: LogSection = field(default_factory=LogSection)


SECTIONS: dict[str, type[Any]] = {
    one.name: cast("type[Any]", one.default_factory) for one in fields(Config)
}
"""The sections of the file by name, in the order they are printed."""


def check_range(section: str, key: Field[Any], value: object) -> None:
    """Check a value of the right type against its field's own rule.

    Raises:
        InputError: it is out of range.
    """
    check: Check | None = key.metadata["check"]
    wanted = check(value) if check else None
    if wanted:
        raise InputError(f"[{section}] {key.name} must be {wanted}, not {value!r:.80}")
