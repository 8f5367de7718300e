"""Where a node keeps things: everything below its home, but for the models if told so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SOCKET_NAME = "dreamerd.sock"


@dataclass(frozen=True)
class Places:
    """The paths of one node. Nothing is created here."""

    home: Path
    models_dir: Path

    @property
    def config(self) -> Path:
        """The settings, TOML."""
        return self.home / "config.toml"

    @property
    def socket(self) -> Path:
        """Where the REST API accepts."""
        return self.home / "run" / SOCKET_NAME

    @property
    def grpc_socket(self) -> Path:
        """Where gRPC accepts, if the settings ask for it."""
        return self.home / "run" / "grpc.sock"

    @property
    def identity(self) -> Path:
        """Keys and memberships: secrets, mode 0700."""
        return self.home / "identity"

    @property
    def api_token(self) -> Path:
        """The bearer token of the TCP API, unless the settings name another file."""
        return self.identity / "api-token"

    @property
    def state(self) -> Path:
        """Durable facts, SQLite."""
        return self.home / "state.db"

    @property
    def lock(self) -> Path:
        """Held by the daemon that owns the home."""
        return self.home / "run" / "dreamerd.lock"

    @property
    def blobs(self) -> Path:
        """Files that clients of Ollama's API upload to make models of; kept for an hour."""
        return self.home / "blobs"

    @property
    def tensors(self) -> Path:
        """Large tensors on their way to or from peers; emptied at the start."""
        return self.home / "tensors"

    @property
    def tracker(self) -> Path:
        """Data of the tracker inside this daemon."""
        return self.home / "tracker"


def find_home(option: Path | str | None, environ: Mapping[str, str]) -> Path:
    """Return the home, absolute: ``--home``, else DREAMER_HOME, else the user's data directory."""
    chosen = option or environ.get("DREAMER_HOME")
    if not chosen:
        import platformdirs  # the CLI starts faster without it, and mostly needs it never

        chosen = platformdirs.user_data_dir("dreamer")
    try:
        return Path(chosen).expanduser().absolute()
    except RuntimeError:
        # A container may run as a user that no passwd file knows, with no HOME.
        return Path("/.local/share/dreamer")


def find_places(home: Path, models_dir: str) -> Places:
    """Return the places below ``home``; ``models_dir`` is the setting of that name."""
    models = Path(models_dir).expanduser().absolute() if models_dir else home / "models"
    return Places(home, models)
