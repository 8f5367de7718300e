"""What a node can be told: one TOML file, overridden by ``DREAMER_<SECTION>_<KEY>``.

Each key's documentation stands beside its field; ``dreamerd --print-default-config`` prints them
all. A key that does not exist is an error: a misspelt setting must not be a silent default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, cast

from dreamer.daemon.field_types import TableText
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import from_hex
from dreamer.protocol.limits import (
    INFERENCE_IDLE_TIMEOUT_S,
    INFERENCE_MAX_MODELS,
    LINKS_MAX_PER_NODE,
    LINKS_MESH_MIN,
    TURN_TTL_MAX_S,
    TURN_TTL_MIN_S,
    TURN_TTL_S,
    WORKERS_MAX,
)

Check = Callable[[Any], str | None]
"""Returns what a value must be when it is not, else None."""


def _key(default: Any, doc: str, check: Check | None = None) -> Any:
    return field(default=default, metadata={"doc": doc, "check": check})


def _between(low: float, high: float) -> Check:
    return lambda value: None if low <= value <= high else f"between {low} and {high}"


def _socket_mode(value: str) -> str | None:
    good = len(value) == 4 and value[0] == "0" and set(value) <= set("01234567")
    if good and value[1] in "67" and value[3] == "0":
        return None
    return 'an octal mode that the owner can write and others can\'t, such as "0600" or "0660"'


def split_address(listen: str) -> tuple[str, int] | None:
    """Return host and port of ``HOST:PORT`` (``[::1]:0`` for IPv6), or None when it is neither."""
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        return None
    return host.removeprefix("[").removesuffix("]"), int(port)


def _address(value: str) -> str | None:
    return None if split_address(value) else 'HOST:PORT, such as "0.0.0.0:8470"'


def _loopback(value: str) -> str | None:
    address = split_address(value)
    if not value or (address and address[0] in ("127.0.0.1", "::1", "localhost")):
        return None
    return 'empty or a loopback HOST:PORT such as "127.0.0.1:8471" (other hosts would need TLS)'


def _room_ids(values: tuple[str, ...]) -> str | None:
    try:
        for value in values:
            from_hex(value, "a room's id")
    except InputError:
        return "a list of room ids, each 64 lower-case hex digits"
    return None


def _schemes(*schemes: str) -> Check:
    def check(urls: tuple[str, ...]) -> str | None:
        good = all(url.startswith(tuple(f"{scheme}:" for scheme in schemes)) for url in urls)
        return None if good else f"a list of URLs that start with {' or '.join(schemes)}:"

    return check


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
        _socket_mode,
    )
    listen: str = _key(
        "",
        "Listen on TCP too, on loopback only, with a bearer token. Empty: no TCP.",
        _loopback,
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
        (), "STUN servers that tell a node its public address.", _schemes("stun", "stuns")
    )
    turn: tuple[str, ...] = _key(
        (), "TURN servers that relay where no direct way exists.", _schemes("turn", "turns")
    )
    turn_username: str = _key("", "User name at the TURN servers.")
    turn_password: str = _key("", "Password at the TURN servers.")
    relay: Literal["never", "fallback", "only"] = _key(
        "fallback",
        "Use TURN never, as a fallback, or only (private networks that allow nothing else).",
    )
    mesh_links: int = _key(
        LINKS_MESH_MIN,
        "Links to other members that a node keeps up in each room, though nothing is exchanged: "
        "over them members find one another when every tracker is away.",
        _between(0, LINKS_MAX_PER_NODE),
    )


@dataclass(frozen=True)
class TrackerSection:
    """The tracker inside this daemon, started by --with-tracker."""

    # Every interface, since only asking for --with-tracker starts it, and others must reach it.
    listen: str = _key("0.0.0.0:8470", "Address it accepts on; port 0 picks a free one.", _address)
    data: str = _key("", "Where it keeps its records. Empty: HOME/tracker.")
    rooms: tuple[str, ...] = _key(
        (),
        "The only rooms it serves, by the ids that `dreamer room list --json` prints. Empty: any, "
        "so that whoever reaches it may use it. Set it once your rooms are made.",
        _room_ids,
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
        _schemes("turn", "turns"),
    )
    turn_secret_file: str = _key(
        "", "Holds the secret shared with them (static-auth-secret of coturn); mode 0600."
    )
    turn_ttl_s: int = _key(
        TURN_TTL_S,
        "Seconds for which TURN credentials are good.",
        _between(TURN_TTL_MIN_S, TURN_TTL_MAX_S),
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
        _between(1, WORKERS_MAX),
    )


@dataclass(frozen=True)
class InferenceSection:
    """Running models."""

    serve_peers: bool = _key(False, "Run models for other members of a room.")
    max_models: int = _key(
        INFERENCE_MAX_MODELS,
        "Models kept loaded at once, each in its own process.",
        _between(1, 64),
    )
    max_memory_mib: int = _key(
        0,
        "MiB of memory that a model's process may take; weights mapped from disk don't count. "
        "0: three quarters of this machine's.",
        _between(0, 2**30),
    )
    threads: int = _key(0, "Threads a model may use. 0: all cores.", _between(0, 1024))
    idle_timeout_s: float = _key(
        INFERENCE_IDLE_TIMEOUT_S,
        "Seconds without a request before a model is unloaded.",
        _between(0, 10**7),
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
    tracker: TrackerSection = field(default_factory=TrackerSection)
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
