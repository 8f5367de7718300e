"""Where and as what a node is about to run: its settings, its kind, its places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dreamer.daemon.config import Config
from dreamer.daemon.config_file import load_config
from dreamer.daemon.places import Places, find_home, find_places
from dreamer.daemon.worker.kind import Worker, decide
from dreamer.daemon.worker.session_home import in_session, open_session_home
from dreamer.daemon.worker.surroundings import read_facts


@dataclass(frozen=True)
class Settled:
    """A node's settings, what kind of worker it is, and where it keeps what."""

    config: Config
    worker: Worker
    places: Places


def settle(
    home_option: str | None, config_option: Path | None, environ: Mapping[str, str]
) -> Settled:
    """Return how a node is to run; its home is made, or that of its session.

    Raises:
        InputError: the settings can't be used.
        LocalError: an ephemeral worker finds no place for its state.
    """
    home = find_home(home_option, environ)
    config = load_config(
        config_option or home / "config.toml", environ, must_exist=config_option is not None
    )
    places = find_places(home, config.node.models_dir)
    worker = decide(config.worker.kind, read_facts(home, environ))
    if worker.session:
        places = in_session(places, open_session_home(home, environ))
    return Settled(config, worker, places)
