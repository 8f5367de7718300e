"""Settings of the machine itself, its API and its log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dreamer.daemon.setting_checks import (
    a_socket_mode,
    an_address_or_none,
    loopback_or_none,
    unix_or_loopback_or_none,
)
from dreamer.daemon.settings.key import key


@dataclass(frozen=True)
class NodeSection:
    """This machine."""

    name: str = key("", "The name that others see. Empty: this machine's host name.")
    models_dir: str = key(
        "",
        "Where the store keeps models: a large, fast disk. Empty: HOME/models, or MODELS_DIR from "
        "the environment.",
    )


@dataclass(frozen=True)
class ApiSection:
    """The REST API for programs on this machine. The Unix socket is always there."""

    socket_mode: str = key(
        "0600",
        "Permissions of HOME/run/dreamerd.sock. With those of the group set, HOME/run opens to it "
        "too; the directories above are yours to open.",
        a_socket_mode,
    )
    listen: str = key(
        "",
        "Listen on TCP too, on loopback only, with a bearer token. Empty: no TCP.",
        loopback_or_none,
    )
    probe_listen: str = key(
        "",
        "Listen at HOST:PORT for GET /health and GET /ready alone, with no token and no details: "
        'for the probes of Kubernetes ("0.0.0.0:8472"). Empty: no such port.',
        an_address_or_none,
    )
    grpc_listen: str = key(
        "",
        "Serve the Open Inference Protocol over gRPC: at a loopback HOST:PORT with the bearer "
        'token, and at HOME/run/grpc.sock with none; "unix" is that socket alone. Empty: no gRPC.',
        unix_or_loopback_or_none,
    )
    token_file: str = key(
        "",
        "Holds the bearer token for TCP; made with mode 0600 when it is missing. "
        "Empty: HOME/identity/api-token.",
    )


@dataclass(frozen=True)
class LogSection:
    """What the daemon says on stderr."""

    level: Literal["debug", "info", "warning", "error"] = key("info", "The least it reports.")
